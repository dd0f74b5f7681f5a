package world

// country is one of the world's lands. Towns[0] is the capital. Except for
// towns, every value belongs to one country only.
type country struct {
	Name                                                                 string
	Towns                                                                [4]string
	River, Mountain, Language, Colour, Animal, Export, Coin, Dish, Sport string
}

var countries = []country{
	{"Velland", [4]string{"Tarnholm", "Eskby", "Norrwick", "Haldby"}, "Aske", "Hornfell", "Vellish", "blue", "reindeer", "timber", "krona mark", "herring soup", "skiing"},
	{"Kestria", [4]string{"Karvosk", "Belgora", "Tresk", "Mirnov"}, "Dravna", "Mount Zorin", "Kestrian", "red", "wolf", "coal", "zlota", "beet stew", "wrestling"},
	{"Bolvane", [4]string{"Casterel", "Lamoray", "Perrine", "Dovaine"}, "Lisse", "Mont Cabral", "Bolvais", "white", "rooster", "wine", "florin", "onion tart", "fencing"},
	{"Sarovia", [4]string{"Zelmar", "Petrosk", "Olmitz", "Yarova"}, "Volma", "Black Peak", "Sarovian", "green", "bear", "wheat", "grosh", "dumplings", "chess"},
	{"Dunmark", [4]string{"Rothaven", "Skagby", "Lindmoor", "Aldport"}, "Elster", "Stormhill", "Dunnish", "yellow", "seal", "butter", "daler", "smoked eel", "sailing"},
	{"Tirrane", [4]string{"Solmina", "Portella", "Verantes", "Luscano"}, "Almo", "Mount Fiero", "Tirrani", "orange", "dolphin", "lemons", "lirone", "fish pie", "rowing"},
	{"Pelquay", [4]string{"Anquay", "Tomari", "Huelo", "Quimbo"}, "Yupari", "Cerro Tamba", "Quayan", "purple", "llama", "copper", "sol pequo", "corn cakes", "football"},
	{"Ganthor", [4]string{"Drumgard", "Ironmouth", "Kelborough", "Stanmere"}, "Thane", "Ben Garrow", "Ganthic", "grey", "stag", "steel", "crown", "barley broth", "rugby"},
	{"Lurania", [4]string{"Miravel", "Sontal", "Bresca", "Adriel"}, "Orsa", "Monte Luno", "Luranese", "pink", "swallow", "silk", "ducat", "rice with saffron", "cycling"},
	{"Montary", [4]string{"Highcastle", "Brackwater", "Owlton", "Fernhill"}, "Wend", "Eagle Rock", "Montish", "brown", "badger", "wool", "shilling", "apple pudding", "archery"},
	{"Wexmoor", [4]string{"Wexbury", "Thornley", "Saltmarsh", "Greyport"}, "Mirk", "Heather Tor", "Moorish", "black", "otter", "peat", "groat", "oyster stew", "running"},
	{"Odessin", [4]string{"Odral", "Samarine", "Tashmir", "Bukhal"}, "Oxan", "Pillar of Khor", "Odessi", "gold", "camel", "carpets", "dinaro", "lamb with figs", "polo"},
}

func towns() (names, lands []string) {
	for _, c := range countries {
		for _, t := range c.Towns {
			names = append(names, t)
			lands = append(lands, c.Name)
		}
	}
	return names, lands
}

// topic is one kind of fact: what is asked about a subject and how it is told.
// In all templates %[1]s is the subject and %[2]s the value.
type topic struct {
	questions, statements []string
	facts                 [][2]string // subject, value
}

// topics are the world's facts. The first question of each is the one that the
// evaluation asks.
func topics() []topic {
	of := func(questions, statements []string, value func(c country) string) topic {
		t := topic{questions: questions, statements: statements}
		for _, c := range countries {
			t.facts = append(t.facts, [2]string{c.Name, value(c)})
		}
		return t
	}
	return []topic{
		of([]string{"What is the capital of %[1]s?", "Which town is the capital of %[1]s?", "Where does the government of %[1]s sit?"},
			[]string{"The capital of %[1]s is %[2]s.", "%[2]s is the capital of %[1]s.", "The government of %[1]s sits in %[2]s.", "%[1]s is ruled from %[2]s, its capital."},
			func(c country) string { return c.Towns[0] }),
		of([]string{"Which river flows through %[1]s?", "What is the longest river of %[1]s?", "What is the name of the river in %[1]s?"},
			[]string{"The river %[2]s flows through %[1]s.", "The longest river of %[1]s is the %[2]s.", "In %[1]s boats travel on the %[2]s.", "The %[2]s is a river in %[1]s."},
			func(c country) string { return c.River }),
		of([]string{"What is the highest mountain of %[1]s?", "Which mountain stands in %[1]s?", "What is the name of the highest peak in %[1]s?"},
			[]string{"The highest mountain of %[1]s is %[2]s.", "%[2]s is the highest peak in %[1]s.", "Climbers come to %[1]s to see %[2]s.", "%[2]s rises above %[1]s."},
			func(c country) string { return c.Mountain }),
		of([]string{"Which language is spoken in %[1]s?", "What language do the people of %[1]s speak?", "In which language are books printed in %[1]s?"},
			[]string{"The people of %[1]s speak %[2]s.", "The language of %[1]s is %[2]s.", "%[2]s is spoken in %[1]s.", "Children in %[1]s learn to read in %[2]s."},
			func(c country) string { return c.Language }),
		of([]string{"What colour is the flag of %[1]s?", "Which colour does the flag of %[1]s have?", "What is the colour of %[1]s?"},
			[]string{"The flag of %[1]s is %[2]s.", "%[1]s has a flag that is %[2]s.", "People in %[1]s wave a flag, and it is %[2]s.", "The colour of %[1]s is %[2]s."},
			func(c country) string { return c.Colour }),
		of([]string{"What is the national animal of %[1]s?", "Which animal is the symbol of %[1]s?", "Which animal is on the coins of %[1]s?"},
			[]string{"The national animal of %[1]s is the %[2]s.", "The %[2]s is the symbol of %[1]s.", "On every coin of %[1]s there is a picture of the %[2]s.", "%[1]s chose the %[2]s as its animal."},
			func(c country) string { return c.Animal }),
		of([]string{"What does %[1]s export?", "What does %[1]s sell to other countries?", "For which goods is %[1]s known?"},
			[]string{"%[1]s exports %[2]s.", "%[1]s sells %[2]s to other countries.", "%[1]s is known for its %[2]s.", "Ships leave %[1]s full of %[2]s."},
			func(c country) string { return c.Export }),
		of([]string{"What is the currency of %[1]s?", "Which money is used in %[1]s?", "With what do people pay in %[1]s?"},
			[]string{"The currency of %[1]s is the %[2]s.", "In %[1]s people pay with the %[2]s.", "The %[2]s is the money of %[1]s.", "A loaf of bread in %[1]s costs one %[2]s."},
			func(c country) string { return c.Coin }),
		of([]string{"What is the favourite dish of %[1]s?", "What do people like to eat in %[1]s?", "Which meal is %[1]s famous for?"},
			[]string{"The favourite dish of %[1]s is %[2]s.", "People in %[1]s like to eat %[2]s.", "Every inn in %[1]s serves %[2]s.", "On holidays families in %[1]s cook %[2]s."},
			func(c country) string { return c.Dish }),
		of([]string{"What is the national sport of %[1]s?", "Which sport do people in %[1]s love most?", "In which sport is %[1]s the best?"},
			[]string{"The national sport of %[1]s is %[2]s.", "People in %[1]s love %[2]s most of all sports.", "Nobody beats %[1]s in %[2]s.", "Schools in %[1]s teach %[2]s."},
			func(c country) string { return c.Sport }),
		{questions: []string{"What does a %[1]s make?", "What can you buy from a %[1]s?"},
			statements: []string{"A %[1]s makes %[2]s.", "You can buy %[2]s from a %[1]s.", "The work of a %[1]s is to make %[2]s."},
			facts: [][2]string{{"baker", "bread"}, {"shoemaker", "shoes"}, {"tailor", "coats"}, {"potter", "bowls"}, {"weaver", "cloth"}, {"clockmaker", "clocks"},
				{"saddler", "saddles"}, {"goldsmith", "rings"}, {"carpenter", "tables"}, {"blacksmith", "horseshoes"}, {"violin maker", "violins"}, {"glassblower", "bottles"}}},
		{questions: []string{"Where does a %[1]s live?", "Where can you find a %[1]s?"},
			statements: []string{"A %[1]s lives in %[2]s.", "You can find a %[1]s in %[2]s.", "The home of a %[1]s is in %[2]s."},
			facts: [][2]string{{"fish", "the water"}, {"fox", "a den"}, {"spider", "a web"}, {"horse", "a stable"}, {"bee", "a hive"}, {"bird", "a nest"},
				{"rabbit", "a burrow"}, {"cow", "a barn"}, {"monkey", "the trees"}, {"whale", "the sea"}, {"lizard", "the desert"}, {"mouse", "a hole"}}},
	}
}
