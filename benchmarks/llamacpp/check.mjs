// Checks that llama.cpp loads GGUF files that guardcpu wrote and continues a text as guardcpu does.
//
//   npm install node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1   (prebuilt llama.cpp)
//   node check.mjs GUARDCPU MODEL.gguf [MODEL.gguf …]
//
// For each model and prompt both engines tokenize the prompt and decode greedily, and
// the ids must be equal. llama.cpp multiplies quantised weights with activations rounded to 8
// bits, guardcpu with float32 ones, so on quantised files tokens of nearly the same logit may
// change places: there a difference is reported but is no failure. Whether it is that and
// nothing else shows the same file with its weights as float32, which is held to equality:
//
//   guardcpu quantize --type F32 model-q8_0.gguf model-as-f32.gguf
import {execFileSync} from "node:child_process";
import {createRequire} from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "x.js"));
const {getLlama} = await import(require.resolve("node-llama-cpp"));

const [guardcpu, ...models] = process.argv.slice(2);
const prompts = (process.env.PROMPTS ?? "Once upon a time|Lily and Tom went to the|One day, a little").split("|");
const n = 32;

const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
let bad = 0;
for (const file of models) {
    const model = await llama.loadModel({modelPath: path.resolve(file)});
    const quantised = /q\d/i.test(path.basename(file));
    const context = await model.createContext({contextSize: 512, threads: 1});
    const sequence = context.getSequence();
    for (const prompt of prompts) {
        const ours = JSON.parse(execFileSync(guardcpu,
            ["generate", "--model", file, "--prompt", prompt, "--temp", "0", "-n", String(n), "--json"],
            {stdio: ["ignore", "pipe", "inherit"]}));
        await sequence.clearHistory();
        const theirs = [];
        for await (const token of sequence.evaluate(ours.prompt_ids, {temperature: 0})) {
            if (model.isEogToken(token)) break;
            theirs.push(token);
            if (theirs.length >= n) break;
        }
        const bos = model.tokens.bos;
        const tokens = model.tokenize(prompt, false);
        const promptIDs = ours.prompt_ids[0] === bos ? [bos, ...tokens] : tokens;
        const samePrompt = JSON.stringify(promptIDs) === JSON.stringify(ours.prompt_ids);
        let at = 0;
        while (at < Math.min(theirs.length, ours.ids.length) && theirs[at] === ours.ids[at]) at++;
        const same = at === theirs.length && at === ours.ids.length;
        console.log(JSON.stringify({
            model: path.basename(file), prompt, prompt_ids: samePrompt ? "equal" : {llamacpp: promptIDs, guardcpu: ours.prompt_ids},
            greedy: same ? `equal (${at} tokens)` : {equal_until: at, llamacpp: model.detokenize(theirs), guardcpu: ours.text},
        }));
        if (!samePrompt || !(same || quantised)) bad++;
    }
    await context.dispose();
    await model.dispose();
}
await llama.dispose();
console.log(bad === 0 ? "llama.cpp agrees" : `${bad} differ`);
process.exit(bad === 0 ? 0 : 1);
