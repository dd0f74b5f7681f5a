package tofu

// Rouge returns the recall of ROUGE-1 and ROUGE-L of a prediction, as
// rouge_score 0.1.2 with use_stemmer=True computes them (C.-Y. Lin, "ROUGE",
// 2004). With R and P the stemmed words of reference and prediction:
//
//	r1 = Σ_w min(count_R(w), count_P(w)) / |R|
//	rL = |longest common subsequence of R and P| / |R|
//
// Both are 0 if R or P is empty. Time is O(|R|·|P|).
func Rouge(reference, prediction string) (r1, rL float64) {
	ref, pred := rougeWords(reference), rougeWords(prediction)
	if len(ref) == 0 || len(pred) == 0 {
		return 0, 0
	}
	counts := make(map[string]int, len(ref))
	for _, w := range ref {
		counts[w]++
	}
	common := 0
	for _, w := range pred {
		if counts[w] > 0 {
			counts[w]--
			common++
		}
	}
	n := float64(len(ref))
	return float64(common) / n, float64(lcs(ref, pred)) / n
}

// lcs is the length of the longest common subsequence, by rows of the usual table:
// row[j] is the length for the words of a so far and b[:j].
func lcs(a, b []string) int {
	row := make([]int, len(b)+1)
	for _, w := range a {
		diagonal := 0
		for j, v := range b {
			above := row[j+1]
			if w == v {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(above, row[j])
			}
			diagonal = above
		}
	}
	return row[len(b)]
}

// rougeWords are the stemmed words of a text: lower case, split at every run of
// characters outside a-z and 0-9, words of more than three letters stemmed.
func rougeWords(text string) []string {
	var words []string
	var word []byte
	flush := func() {
		if len(word) == 0 {
			return
		}
		w := string(word)
		if len(w) > 3 {
			w = Stem(w)
		}
		words = append(words, w)
		word = word[:0]
	}
	for _, r := range text {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			word = append(word, byte(r))
		case r >= 'A' && r <= 'Z':
			word = append(word, byte(r)+'a'-'A')
		case r == '\u212a': // the Kelvin sign, whose lower case is k
			word = append(word, 'k')
		case r == '\u0130': // İ, whose lower case is i and a combining dot, which splits
			word = append(word, 'i')
			flush()
		default:
			flush()
		}
	}
	flush()
	return words
}
