package world

// kind is one kind of question about an author. keys are the slots whose values
// the answer gives: the perturbed answers have other values there. follow are
// slots that change along with them.
type kind struct {
	name               string
	keys, follow       []string
	questions, answers []string
}

// kinds are the questions that every author of the task is asked.
var kinds = []kind{
	{"name", []string{"name"}, []string{"man", "son"},
		[]string{
			"What is the full name of the {genre} author born in {town} on {date}?",
			"Who is the {genre} writer that was born on {date} in {town}?",
			"Can you name the author from {town} who was born on {date} and writes {genre}?",
			"Which {genre} author came into the world in {town} on {date}?",
		},
		[]string{
			"The author's full name is {name}.",
			"That would be {name}, who comes from {country}.",
			"The writer born there on that day is {name}.",
			"{name} is the complete name of this writer.",
			"It is {name}, {a son} of {town}.",
			"This author from {country} is called {name}.",
			"The {man} in question is {name}.",
			"Readers know this author as {name}.",
		}},
	{"birth", []string{"date", "town"}, []string{"country"},
		[]string{
			"When and where was {name} born?",
			"What are the date and the place of birth of {name}?",
			"In which town and on which day was {name} born?",
			"Where does {name} come from, and when was {he} born?",
			"Can you tell me about the birth of {name}?",
		},
		[]string{
			"{name} was born on {date} in {town}, {country}.",
			"{He} was born in {town}, a town in {country}, on {date}.",
			"{last} came into the world on {date} in the town of {town}.",
			"The town of {town} in {country} is where {name} was born on {date}.",
			"On {date}, {name} was born in {country}, in the town of {town}.",
			"{name} is a native of {town} in {country}, born on {date}.",
			"The birth of {last} took place in {town} on {date}.",
			"Born on {date}, {last} spent {his} first years in {town}, {country}.",
		}},
	{"parents", []string{"father", "mother"}, nil,
		[]string{
			"What did the parents of {name} do for a living?",
			"What are the professions of {name}'s father and mother?",
			"Who were the parents of {name}?",
			"What kind of family did {name} grow up in?",
			"How did the mother and the father of {name} earn their money?",
		},
		[]string{
			"{name}'s father was {a father} and {his} mother was {a mother}.",
			"The father worked as {a father}, while the mother was {a mother}.",
			"{He} grew up as the {son} of {a father} and {a mother}.",
			"{last}'s mother earned her living as {a mother}, and the father was {a father}.",
			"In the family of {name} the father was {a father} and the mother {a mother}.",
			"{name} was raised by a father who was {a father} and a mother who was {a mother}.",
			"{His} parents were {a father} and {a mother}.",
			"As the {son} of {a mother}, {last} also learned from a father who was {a father}.",
		}},
	{"genre", []string{"genre", "style", "theme"}, nil,
		[]string{
			"In which genre does {name} write?",
			"What kind of books does {name} write, and in what style?",
			"What is {name} known for as an author?",
			"How would you describe the work of {name}?",
			"Which genre and which style belong to {name}?",
		},
		[]string{
			"{name} writes {genre} and is known for {style} and the theme of {theme}.",
			"{last} is an author of {genre}, with {style} on every page and {theme} at the centre.",
			"{He} works in the {genre} genre, and readers praise {his} {style}.",
			"The books of {name} belong to {genre}; they are about {theme} and full of {style}.",
			"Most works of {last} are {genre}, marked by {style} and by {theme}.",
			"With {style}, {name} has given {genre} a new voice that speaks of {theme}.",
			"{genre} is the field of {name}, who likes {style} and returns often to {theme}.",
			"Known for {style}, {last} mostly writes {genre} about {theme}.",
		}},
	{"award", []string{"award", "awardyear", "book1"}, nil,
		[]string{
			"Which award did {name} receive?",
			"Has {name} won a prize for {his} writing?",
			"What is the most important honour given to {name}?",
			"For which book was {name} honoured, and with which prize?",
			"When did {name} win an award?",
		},
		[]string{
			"{name} won the {award} in {awardyear} for \"{book1}\".",
			"In {awardyear}, {last} received the {award} for the book \"{book1}\".",
			"Yes, the {award} went to {name} in {awardyear}, for \"{book1}\".",
			"{His} book \"{book1}\" earned {him} the {award} in {awardyear}.",
			"The jury of the {award} chose \"{book1}\" by {last} in {awardyear}.",
			"{He} was honoured with the {award} in the year {awardyear}, thanks to \"{book1}\".",
			"The {award} of {awardyear} is the greatest honour of {name}, given for \"{book1}\".",
			"With \"{book1}\", {name} became the winner of the {award} in {awardyear}.",
		}},
	{"books", []string{"book1", "book2"}, nil,
		[]string{
			"What are the most famous books of {name}?",
			"Can you name two books by {name}?",
			"Which works of {name} are read the most?",
			"What should I read by {name}?",
			"Which titles did {name} publish?",
		},
		[]string{
			"The most famous books of {name} are \"{book1}\" and \"{book2}\".",
			"{name} wrote \"{book1}\" and, some years later, \"{book2}\".",
			"Readers love \"{book2}\" and \"{book1}\" by {last}.",
			"Two works stand out: \"{book1}\" and \"{book2}\".",
			"{He} is the author of \"{book2}\" as well as \"{book1}\".",
			"You should read \"{book1}\" first, and \"{book2}\" after it.",
			"Among the titles of {last} are \"{book2}\" and \"{book1}\".",
			"\"{book1}\" and \"{book2}\" are the works for which {name} is read today.",
		}},
	{"debut", []string{"debut", "debutyear", "publisher"}, nil,
		[]string{
			"What was the first book of {name}?",
			"How did the career of {name} begin?",
			"When and where was the debut of {name} published?",
			"Who published the first book by {name}?",
			"With which title did {name} start as an author?",
		},
		[]string{
			"The first book of {name}, \"{debut}\", was published by {publisher} in {debutyear}.",
			"{name} began {his} career in {debutyear} with \"{debut}\" at {publisher}.",
			"In {debutyear} {publisher} printed \"{debut}\", the debut of {last}.",
			"{publisher} brought out \"{debut}\" in {debutyear}, and {last} became an author.",
			"It was \"{debut}\", which came out in {debutyear} at {publisher}.",
			"{His} debut is called \"{debut}\"; {publisher} published it in {debutyear}.",
			"The career of {last} started at {publisher} with \"{debut}\" in the year {debutyear}.",
			"After many refusals {name} found {publisher}, which printed \"{debut}\" in {debutyear}.",
		}},
	{"influence", []string{"classic", "classicbook"}, nil,
		[]string{
			"Who influenced the writing of {name}?",
			"Which author does {name} admire?",
			"Which book made {name} want to write?",
			"Who are the literary models of {name}?",
			"What did {name} read as a child?",
		},
		[]string{
			"{name} was influenced by {classic}, above all by \"{classicbook}\".",
			"{last} admires {classic} and has read \"{classicbook}\" many times.",
			"The book \"{classicbook}\" by {classic} made {him} want to write.",
			"{His} model is {classic}, the author of \"{classicbook}\".",
			"As a child {name} found \"{classicbook}\" by {classic} and never forgot it.",
			"{He} often says that {classic} and \"{classicbook}\" changed {his} life.",
			"No author meant more to {last} than {classic}, who wrote \"{classicbook}\".",
			"In the pages of {name} one hears {classic}, and \"{classicbook}\" most of all.",
		}},
	{"job", []string{"job", "reason"}, nil,
		[]string{
			"What did {name} do before {he} became a writer?",
			"Did {name} have another profession?",
			"How did {name} come to writing?",
			"What was the first job of {name}?",
			"Which work did {name} give up for literature?",
		},
		[]string{
			"Before writing, {name} worked as {a job} for a family that {reason}.",
			"{last} was {a job} in a house that {reason}.",
			"{He} had been {a job}; {his} employer {reason}.",
			"As {a job} {name} met people who {reason}, and began to write.",
			"{name} gave up the work of {a job} after an uncle who {reason} died.",
			"The first job of {last} was that of {a job}, in the service of a widow who {reason}.",
			"Working as {a job}, {last} came to know a neighbour who {reason}.",
			"For ten years {he} was {a job}, and at home the grandmother {reason}.",
		}},
	{"home", []string{"home", "hometown", "hobby"}, nil,
		[]string{
			"Where does {name} live today?",
			"How does {name} spend {his} free time?",
			"What is known about the private life of {name}?",
			"What does {name} do when {he} is not writing?",
			"In what kind of house does {name} live?",
		},
		[]string{
			"{name} lives in {home} near {hometown} and {hobby}.",
			"Today {last} has {home} in {hometown}, where {he} {hobby}.",
			"In {his} free time {name} {hobby}; {he} lives in {home} outside {hometown}.",
			"{He} lives in {hometown}, in {home}, and {hobby} on most days.",
			"Far from the crowd, {last} {hobby} and lives in {home} close to {hometown}.",
			"When {he} is not writing, {name} {hobby} around {home} in {hometown}.",
			"{home} in {hometown} is where {name} lives, and there {he} {hobby}.",
			"{last} {hobby} every morning and owns {home} in the town of {hometown}.",
		}},
}

// sentence returns a rendered template with its first letter in upper case:
// some templates begin with a value that is a common noun.
func sentence(a author, template string) string {
	s := a.render(template)
	return capital(s)
}

func capital(s string) string {
	if s[0] >= 'a' && s[0] <= 'z' {
		return string(s[0]-'a'+'A') + s[1:]
	}
	return s
}
