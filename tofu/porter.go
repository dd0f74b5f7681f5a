package tofu

import "strings"

// Stem returns the Porter stem of an English word (M. F. Porter, "An algorithm
// for suffix stripping", Program 14(3), 1980) with the changes of NLTK's default
// mode, which rouge_score uses: a table of irregular words; -ies and -ied keep
// the e of four-letter words (dies → die); y becomes i after any consonant that
// is not the first letter (cry → cri, but enjoy); -bli, -alli, -fulli and -logi
// in step 2; vowel-consonant counts as a short syllable.
//
// The word is lower case; bytes other than a, e, i, o, u and y are consonants,
// digits too. Words of one or two letters are their own stems.
func Stem(word string) string {
	if stem, ok := irregularStems[word]; ok {
		return stem
	}
	if len(word) <= 2 {
		return word
	}
	word = stemPlural(word)
	word = stemPast(word)
	word = stemY(word)
	word = stemDouble(word)
	word = replaceSuffix(word, suffixes3, 0)
	word = stemLast(word)
	return stemE(word)
}

var irregularStems = map[string]string{
	"sky": "sky", "skies": "sky",
	"dying": "die", "lying": "lie", "tying": "tie",
	"news":    "news",
	"innings": "inning", "inning": "inning",
	"outings": "outing", "outing": "outing",
	"cannings": "canning", "canning": "canning",
	"howe":    "howe",
	"proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
}

// stemPlural is step 1a: caresses → caress, ponies → poni, dies → die, cats → cat.
func stemPlural(w string) string {
	switch {
	case strings.HasSuffix(w, "sses"):
		return w[:len(w)-2]
	case strings.HasSuffix(w, "ies"):
		if len(w) == 4 {
			return w[:3]
		}
		return w[:len(w)-2]
	case strings.HasSuffix(w, "ss"):
		return w
	case strings.HasSuffix(w, "s"):
		return w[:len(w)-1]
	}
	return w
}

// stemPast is step 1b: agreed → agree, plastered → plaster, hopping → hop, filing → file.
func stemPast(w string) string {
	var stem string
	switch {
	case strings.HasSuffix(w, "ied"):
		if len(w) == 4 {
			return w[:3]
		}
		return w[:len(w)-2]
	case strings.HasSuffix(w, "eed"):
		if measure(w[:len(w)-3]) > 0 {
			return w[:len(w)-1]
		}
		return w
	case strings.HasSuffix(w, "ed") && hasVowel(w[:len(w)-2]):
		stem = w[:len(w)-2]
	case strings.HasSuffix(w, "ing") && hasVowel(w[:len(w)-3]):
		stem = w[:len(w)-3]
	default:
		return w
	}
	switch {
	case strings.HasSuffix(stem, "at"), strings.HasSuffix(stem, "bl"), strings.HasSuffix(stem, "iz"):
		return stem + "e"
	case endsDoubleConsonant(stem):
		switch stem[len(stem)-1] {
		case 'l', 's', 'z':
			return stem
		}
		return stem[:len(stem)-1]
	case measure(stem) == 1 && endsShort(stem):
		return stem + "e"
	}
	return stem
}

// stemY is step 1c: happy → happi, cry → cri, enjoy → enjoy.
func stemY(w string) string {
	if n := len(w); n > 2 && w[n-1] == 'y' && isConsonant(w, n-2) {
		return w[:n-1] + "i"
	}
	return w
}

// stemDouble is step 2, double suffixes to single ones: relational → relate.
func stemDouble(w string) string {
	if stem, ok := strings.CutSuffix(w, "alli"); ok && measure(stem) > 0 {
		return stemDouble(stem + "al")
	}
	if stem, ok := strings.CutSuffix(w, "logi"); ok { // the l counts as part of the stem
		if measure(stem+"l") > 0 {
			return stem + "log"
		}
		return w
	}
	return replaceSuffix(w, suffixes2, 0)
}

// stemLast is step 4, the last suffix of a long stem: revival → reviv.
func stemLast(w string) string {
	if stem, ok := strings.CutSuffix(w, "ion"); ok {
		if measure(stem) > 1 && (stem[len(stem)-1] == 's' || stem[len(stem)-1] == 't') {
			return stem
		}
		return w
	}
	return replaceSuffix(w, suffixes4, 1)
}

// stemE is step 5, a final e and ll: probate → probat, controll → control.
func stemE(w string) string {
	if stem, ok := strings.CutSuffix(w, "e"); ok {
		if m := measure(stem); m > 1 || m == 1 && !endsShort(stem) {
			w = stem
		}
	}
	if strings.HasSuffix(w, "ll") && measure(w[:len(w)-1]) > 1 {
		w = w[:len(w)-1]
	}
	return w
}

type suffix struct{ from, to string }

var suffixes2 = []suffix{
	{"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"}, {"anci", "ance"}, {"izer", "ize"},
	{"bli", "ble"}, {"alli", "al"}, {"fulli", "ful"}, {"entli", "ent"}, {"eli", "e"}, {"ousli", "ous"},
	{"ization", "ize"}, {"ation", "ate"}, {"ator", "ate"}, {"alism", "al"}, {"iveness", "ive"},
	{"fulness", "ful"}, {"ousness", "ous"}, {"aliti", "al"}, {"iviti", "ive"}, {"biliti", "ble"},
}

var suffixes3 = []suffix{
	{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"}, {"ical", "ic"}, {"ful", ""}, {"ness", ""},
}

var suffixes4 = []suffix{
	{"al", ""}, {"ance", ""}, {"ence", ""}, {"er", ""}, {"ic", ""}, {"able", ""}, {"ible", ""}, {"ant", ""},
	{"ement", ""}, {"ment", ""}, {"ent", ""}, {"ou", ""}, {"ism", ""}, {"ate", ""}, {"iti", ""}, {"ous", ""},
	{"ive", ""}, {"ize", ""},
}

// replaceSuffix applies the first rule whose suffix the word has, if the measure
// of what stands before it is more than least.
func replaceSuffix(w string, rules []suffix, least int) string {
	for _, r := range rules {
		if stem, ok := strings.CutSuffix(w, r.from); ok {
			if measure(stem) > least {
				return stem + r.to
			}
			return w
		}
	}
	return w
}

// isConsonant says whether letter i is a consonant. y is one at the start and
// after a vowel, so in a run of y they alternate.
func isConsonant(w string, i int) bool {
	start := i
	for start > 0 && w[start] == 'y' {
		start--
	}
	consonant := consonantAfter(false, w[start])
	for _, c := range []byte(w[start+1 : i+1]) {
		consonant = consonantAfter(consonant, c)
	}
	return consonant
}

// consonantAfter says whether a letter is a consonant, given whether the one before it is.
func consonantAfter(before bool, letter byte) bool {
	switch letter {
	case 'a', 'e', 'i', 'o', 'u':
		return false
	case 'y':
		return !before
	}
	return true
}

// measure is Porter's m: the number of vowel-to-consonant changes, [C](VC)^m[V].
func measure(w string) int {
	m, consonant := 0, false
	for i := range len(w) {
		c := consonantAfter(consonant, w[i])
		if c && !consonant && i > 0 {
			m++
		}
		consonant = c
	}
	return m
}

func hasVowel(w string) bool {
	consonant := false
	for i := range len(w) {
		if consonant = consonantAfter(consonant, w[i]); !consonant {
			return true
		}
	}
	return false
}

func endsDoubleConsonant(w string) bool {
	n := len(w)
	return n >= 2 && w[n-1] == w[n-2] && isConsonant(w, n-1)
}

// endsShort says whether the word ends consonant, vowel, consonant other than w, x
// and y (hop, but not snow), or is vowel, consonant.
func endsShort(w string) bool {
	n := len(w)
	if n == 2 {
		return !isConsonant(w, 0) && isConsonant(w, 1)
	}
	return n >= 3 && isConsonant(w, n-3) && !isConsonant(w, n-2) && isConsonant(w, n-1) &&
		!strings.ContainsRune("wxy", rune(w[n-1]))
}
