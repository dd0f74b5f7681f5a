package tokenizer

import (
	"fmt"
	"strings"
)

// preTokenizer is a row of preTokenizers.
type preTokenizer struct {
	names        []string   // in tokenizer.ggml.pre
	splitters    []splitter // each cuts the words of the one before
	ignoreMerges bool       // a word that is a token as a whole is that token
	addBOS       bool       // if the file does not say

	characters    bool // words start as characters rather than bytes
	wholeLineEnds bool // ignoreMerges for words of line ends
	alwaysBOS     bool // whatever the file says
}

// preTokenizers lists what a vocabulary with merges may ask for in
// tokenizer.ggml.pre. Names and expressions are llama.cpp's (llm_tokenizer_bpe and
// llama_vocab::impl::load), and so is what an expression means there, which is not
// always what it says: it cuts a text into its matches and what lies between, and
// the cases of letters are told apart in ASCII only.
var preTokenizers = []preTokenizer{
	{ // a file without the key: as llama.cpp
		names:     []string{"default", ""},
		splitters: []splitter{split(seq(some(punct | asciiSymbol))), gpt2, split(seq(some(number))), split(seq(exactly(3, digit)))},
	},
	{
		names: []string{"gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "roberta-bpe", "jina-es", "jina-de", "jina-v1-en",
			"jina-v2-es", "jina-v2-de", "jina-v2-code", "a.x-4.0", "mellum", "modern-bert", "exaone4", "trillion", "granite-docling"},
		splitters: []splitter{gpt2},
	},
	{
		names:     []string{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"},
		splitters: []splitter{split(seq(one(number))), gpt2},
	},
	{
		names:        []string{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"},
		splitters:    []splitter{llama3},
		ignoreMerges: true,
		addBOS:       true,
	},
	{
		names:         []string{"gemma4", "granite-embed-multi-311m"},
		splitters:     []splitter{lines},
		characters:    true,
		wholeLineEnds: true,
		alwaysBOS:     true,
	},
	{
		names:      []string{"sarvam-moe"},
		splitters:  []splitter{lines},
		characters: true,
	},
	{
		names:     []string{"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"},
		splitters: []splitter{llama3},
	},
	{
		names: []string{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open",
			"grok-2"},
		splitters: []splitter{qwen2},
	},
	{
		names: []string{"qwen35"},
		splitters: []splitter{split(anyCaseContractions,
			seq(optional(anything&^(lineEnd|letter|number)), some(letter|mark)), seq(one(number)),
			seq(optional(spaceChar), some(anything&^(blank|letter|mark|number)), many(lineEnd)),
			toLineEnd, blanksBeforeBlank, blanks)},
	},
	{
		names:     []string{"ufakzeka"}, // qwen2 without contractions
		splitters: []splitter{split(word, seq(one(number)), marks, toLineEnd, blanksBeforeBlank, blanks)},
	},
	{
		names:     []string{"laguna"},
		splitters: []splitter{lines, qwen2},
	},
	{
		names: []string{"minicpm5"},
		splitters: []splitter{split(seq(upTo(3, number))),
			split(anyCaseContractions, word, seq(some(number)), marks, toLineEnd, blanksBeforeBlank, blanks)},
		ignoreMerges: true,
	},
	{
		names:     []string{"jais-2"},
		splitters: []splitter{llama3, splitBlankRuns},
	},
	{
		names: []string{"seed-coder"},
		splitters: []splitter{split(anyCaseContractions, word, seq(one(number)),
			seq(optional(spaceChar), some(anything&^(blank|letter|number))), toLineEnd, blanksBeforeBlank, blanks)},
	},
	{
		names:     []string{"bailingmoe", "bailingmoe2", "llada-moe"},
		splitters: []splitter{split(anyCaseContractions, word, seq(one(number)), marks, seq(many(blank), one(lineEnd)), blanksBeforeBlank, blanks)},
	},
	{
		names: []string{"exaone-moe"},
		splitters: []splitter{split(anyCaseContractions, phrase, seq(one(number)),
			seq(optional(spaceChar), some(anything&^(blank|letter|number)), optional(lineEnd|slash)),
			seq(many(blank), one(lineEnd)), blanksBeforeBlank, blanks)},
	},
	{
		names:        []string{"tekken"},
		splitters:    []splitter{split(lowerEnd(letter), upperEnd(letter), seq(one(number)), marksOrSlashes, toLineEnd, blanksBeforeBlank, blanks)},
		ignoreMerges: true,
		addBOS:       true,
	},
	{
		names:     []string{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"},
		splitters: []splitter{gpt4o(letter)},
	},
	{
		names:        []string{"granite-embed-multi-97m"},
		splitters:    []splitter{gpt4o(letter | mark)},
		ignoreMerges: true,
	},
	{
		names: []string{"tiny_aya", "cohere2moe"},
		splitters: []splitter{splitAfterThrees, split(markedWord.then(contractionOfAnyCase), seq(upTo(3, number)),
			marksOrSlashes, toLineEnd, blanksBeforeBlank, blanks)},
	},
	{
		names: []string{"youtu"},
		splitters: []splitter{
			split(seq(someOf(oneOf("가-힣ㄱ-ㆎ"))), seq(someOf(oneOf("！…“”‘’—：；，、-〿︰-﹏"))), seq(someOf(oneOf("ㄅ-ㄯ"))), seq(someOf(cjk))),
			split(markedWord.then(contractionOfAnyCase), seq(one(number)), marksOrSlashes, toLineEnd, blanksBeforeBlank, blanks),
		},
		ignoreMerges: true,
	},
	{
		names: []string{"kimi-k2"},
		splitters: []splitter{split(seq(run{anything, isHan, 1, maxRun}),
			seq(optional(anything&^(lineEnd|letter|number)), run{letter, isNotHan, 1, maxRun}).then(contractionOfAnyCase),
			seq(upTo(3, number)), marks, toLineEnd, blanksBeforeBlank, blanks)},
	},
	{
		names:     []string{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
		splitters: []splitter{split(seq(upTo(3, number))), split(seq(someOf(cjk))), deepseek3},
	},
	{
		names: []string{"spark2_5"},
		splitters: []splitter{split(seq(upTo(3, number))), split(seq(someOf(cjk))),
			split(asciiWord, deepseekWord, seq(optional(spaceChar), some(punct|symbol)), seq(one(lineEnd)), blanksBeforeBlank, blanks),
			split(seq(one(number)))},
	},
	{
		names: []string{"afmoe"},
		splitters: []splitter{splitAfterThrees,
			split(seq(someOf(oneOf("一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ")))), deepseek3},
	},
	{
		names: []string{"deepseek-llm"},
		splitters: []splitter{
			split(seq(one(lineEnd))),
			split(seq(optional(blank), someOf(oneOf(deepseekLetters)))),
			split(seq(optional(blank), someOf(oneOf("!-/:-~！-／：-～‘-‟、-。")))),
			splitBlanksAtEnd,
			split(seq(someOf(oneOf("一-龥ࠀ-一가-퟿")))),
			split(seq(some(number))),
		},
	},
	{
		names: []string{"deepseek-coder"},
		splitters: []splitter{split(seq(one(lineEnd))), split(seq(optional(blank), some(letter))), split(seq(optional(blank), some(punct))),
			split(seq(someOf(oneOf("一-龥ࠀ-一가-퟿")))), split(seq(one(number)))},
	},
	{
		names:     []string{"falcon"},
		splitters: []splitter{split(seq(some(punct | asciiSymbol | backtick))), gpt2, split(seq(exactly(3, digit)))},
	},
	{
		names:     []string{"poro-chat", "bloom", "gpt3-finnish"},
		splitters: []splitter{bloom},
	},
	{
		names:     []string{"viking"},
		splitters: []splitter{bloom, split(seq(one(number)))},
	},
	{
		names:     []string{"superbpe"},
		splitters: []splitter{split(seq(some(number))), splitThrees},
	},
	{
		names: []string{"chameleon"},
		splitters: []splitter{
			split(sentinel), split(imageToken), split(literals(blank, "\t", "\n", "    ", "  ")),
			split(seq(one(number))), split(seq(one(punct | asciiSymbol | backtick))), gpt2,
		},
		addBOS: true,
	},
}

// preTokenizerOf returns the pre-tokenizer that goes by a name.
func preTokenizerOf(name string) (*preTokenizer, error) {
	var known []string
	for i, p := range preTokenizers {
		for _, n := range p.names {
			if n == name {
				return &preTokenizers[i], nil
			}
			if n != "" {
				known = append(known, n)
			}
		}
	}
	return nil, fmt.Errorf("%s %q is not known; there are %s", keyPre, clip(name), strings.Join(known, ", "))
}

// Expressions that several pre-tokenizers have.
var (
	contractions        = expr{asciiPunct, func(s string) int { return contraction(s, false) }} // 's|'t|'re|'ve|'m|'ll|'d
	anyCaseContractions = expr{asciiPunct, contractionOfAnyCase}                                // (?i:'s|'t|'re|'ve|'m|'ll|'d)

	word           = seq(optional(anything&^(lineEnd|letter|number)), some(letter))                       // [^\r\n\p{L}\p{N}]?\p{L}+
	markedWord     = seq(optional(anything&^(lineEnd|letter|number)), some(letter|mark))                  // [^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+
	marks          = seq(optional(spaceChar), some(anything&^(blank|letter|number)), many(lineEnd))       //  ?[^\s\p{L}\p{N}]+[\r\n]*
	marksOrSlashes = seq(optional(spaceChar), some(anything&^(blank|letter|number)), many(lineEnd|slash)) //  ?[^\s\p{L}\p{N}]+[\r\n/]*
	toLineEnd      = seq(many(blank), some(lineEnd))                                                      // \s*[\r\n]+
	blanks         = seq(some(blank))                                                                     // \s+
	asciiWord      = seq(one(ascii), some(lower|upper))                                                   // [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+
	deepseekWord   = seq(optional(anything&^(lineEnd|letter|punct|symbol)), some(letter|mark))            // [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
	cjk            = oneOf("一-龥぀-ゟ゠-ヿ")
)

// Splitters that several pre-tokenizers have.
var (
	// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)
	gpt2 = split(contractions, seq(optional(spaceChar), some(letter)), seq(optional(spaceChar), some(number)),
		seq(optional(spaceChar), some(anything&^(blank|letter|number))), blanksBeforeBlank)

	// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
	llama3 = split(anyCaseContractions, word, seq(upTo(3, number)), marks, toLineEnd, blanksBeforeBlank, blanks)

	// llama3 with one number a word
	qwen2 = split(anyCaseContractions, word, seq(one(number)), marks, toLineEnd, blanksBeforeBlank, blanks)

	// [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
	deepseek3 = split(asciiWord, deepseekWord, seq(optional(spaceChar), some(punct|symbol), many(lineEnd)), toLineEnd, blanksBeforeBlank, blanks)

	//  ?[^(\s|.,!?…。，、।۔،)]+
	bloom = split(seq(optional(spaceChar), someOf(noneOf("(|.,!?…。，、।۔،)"))))

	// [^\n]+|[\n]+
	lines = split(seq(some(anything&^newline)), seq(some(newline)))
)

// deepseekLetters are the letters with cases, of Latin, Greek and other scripts.
const deepseekLetters = "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1F7Dᾀ-ᾴᾶ-ᾼ\u1FBEῂ-ῄῆ-ῌῐ-\u1FD3ῖ-\u1FDBῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212A-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
