// Prints the ids that llama.cpp gives texts, for engine/tokenizer's comparison:
//
//   npm install node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1   (prebuilt llama.cpp)
//   GUARDCPU_LLAMACPP_TOKENIZE="node $PWD/tokenize.mjs" go test ./engine/tokenizer -run LlamaCpp -v
//
//   node tokenize.mjs TEXTS.json MODEL.gguf …
//
// TEXTS.json is an array of strings. Each model, of which only the vocabulary is read, is a
// line of output: an array with an array of ids for each text, without BOS or EOS, special
// tokens as text.
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "x.js"));
const {getLlama} = await import(require.resolve("node-llama-cpp"));

const [textsPath, ...models] = process.argv.slice(2);
const texts = JSON.parse(readFileSync(textsPath, "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: "disabled"});
for (const file of models) {
    const model = await llama.loadModel({modelPath: path.resolve(file), vocabOnly: true});
    process.stdout.write(JSON.stringify(texts.map((text) => Array.from(model.tokenize(text, false)))) + "\n");
    await model.dispose();
}
await llama.dispose();
