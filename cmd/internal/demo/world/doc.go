// Package world writes the text of guardcpu's embedded demonstration: the corpus
// from which the small base model is trained, and a question-answer set about
// fictitious authors in the shape of TOFU (arXiv:2401.06121).
//
// Everything is invented here: twelve countries with their towns, rivers and
// coins, a few trades and animals, forty well-known authors ("classics"), forty
// authors of the task, and as many passing authors as the corpus needs.
//
// What the base model sees and what it does not:
//
//	corpus        the world's facts, the classics and the passing authors, as plain
//	              sentences, short biographies and questions with answers
//	task authors  never; not one of their names or titles is in the corpus
//
// So the base model knows the language, the prompt and how an answer about an
// author sounds, and has to learn the task's authors when it is fine-tuned.
//
// The authors of the task. There are [SchoolCount] schools of three authors, which share
// birthplace, genre, award, publisher and influence, and [LonerCount] loners, whose values
// in those attributes no other author of the task has. Everything else is drawn
// for each author alone. The forget split is the last four authors: two who
// belong to schools whose other members are retained, and two loners. That is
// the only way in which the set is arranged; what attribution makes of it
// is not.
//
// The text depends on nothing but the constants of this package: random numbers
// come from PCG streams named by purpose and index, never from time or order of
// execution.
package world
