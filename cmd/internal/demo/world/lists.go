package world

var (
	women = []string{
		"Ada", "Alma", "Anna", "Berta", "Carla", "Clara", "Dora", "Edith", "Elena", "Emma", "Erika", "Flora", "Greta", "Hanna", "Helen",
		"Ida", "Irene", "Jana", "Karin", "Laura", "Lena", "Lotte", "Maria", "Marta", "Mina", "Nadia", "Nina", "Olga", "Paula", "Rosa",
		"Sara", "Sofia", "Tessa", "Vera", "Wilma",
	}
	men = []string{
		"Adam", "Albert", "Anton", "Arthur", "Bruno", "Carl", "Daniel", "David", "Emil", "Erik", "Felix", "Frank", "Georg", "Gustav", "Hugo",
		"Ivan", "Jacob", "Johan", "Karel", "Leon", "Louis", "Marco", "Martin", "Max", "Nils", "Oscar", "Otto", "Paul", "Pedro", "Robert",
		"Simon", "Theo", "Tomas", "Victor", "Walter",
	}
	surnameHeads = []string{
		"Bar", "Bel", "Bor", "Cal", "Dal", "Dor", "Fal", "Fen", "Gar", "Gil", "Hal", "Hol", "Jan", "Kar", "Kel", "Lam", "Lin", "Mal", "Mar", "Mer",
		"Nor", "Ol", "Ost", "Pel", "Ran", "Ros", "Sal", "Sel", "Tam", "Tor", "Val", "Ver", "Wen", "Wil", "Yar", "Zel",
	}
	surnameTails = []string{
		"ard", "berg", "dini", "dorf", "ek", "ero", "esco", "field", "gren", "holt", "ins", "kova", "land", "low", "mann", "mont", "nik", "quist",
		"rand", "sen", "ski", "son", "stone", "tano", "ton", "vale", "wick", "win", "wood", "zari",
	}
	months = []string{
		"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
	}
	professions = []string{
		"baker", "barber", "beekeeper", "blacksmith", "bookbinder", "bus driver", "butcher", "carpenter", "chemist", "clerk", "clockmaker", "cook",
		"dentist", "diver", "doctor", "electrician", "engineer", "farmer", "ferryman", "fisher", "florist", "forester", "gardener", "glassblower",
		"goldsmith", "harbour pilot", "innkeeper", "judge", "lawyer", "librarian", "locksmith", "mason", "midwife", "miller", "miner", "nurse",
		"optician", "painter", "pharmacist", "photographer", "plumber", "police officer", "postman", "potter", "printer", "rope maker", "sailor",
		"saddler", "shepherd", "shoemaker", "surgeon", "surveyor", "tailor", "teacher", "train driver", "translator", "upholsterer", "violin maker",
		"waiter", "weaver",
	}
	genres = []string{
		"adventure", "alternate history", "biography", "children's literature", "comedy", "courtroom drama", "crime", "cookery", "dystopian fiction",
		"epic poetry", "family saga", "fantasy", "folklore", "ghost fiction", "gothic fiction", "historical fiction", "horror", "love poetry",
		"maritime fiction", "memoir", "mystery", "nature poetry", "philosophy", "romance", "satire", "science fiction", "short fiction",
		"spy fiction", "travel literature", "war fiction",
	}
	styles = []string{
		"short dry sentences", "long winding sentences", "sharp dialogue", "gentle humour", "many narrators", "letters and diaries",
		"sudden endings", "careful descriptions of weather", "old proverbs", "unreliable narrators", "quiet melancholy", "invented songs",
		"detailed maps", "broken timelines", "dreams and omens", "plain village speech", "bitter irony", "talking animals", "precise dates",
		"slow suspense",
	}
	themes = []string{
		"loss", "courage", "exile", "friendship", "greed", "jealousy", "guilt", "old age", "first love", "hunger", "justice", "loneliness",
		"memory", "rivalry", "silence", "war", "trust", "revenge", "hope", "poverty",
	}
	awardHeads = []string{
		"Amber", "Black Swan", "Blue Lantern", "Bronze Anchor", "Copper Bell", "Crystal Page", "Evening Star", "Golden Feather", "Green Oak",
		"Iron Gate", "Ivory Tower", "Jade Mirror", "Lighthouse", "Marble Hand", "Morning Lark", "New Moon", "North Wind", "Open Window",
		"Pearl", "Red Maple", "River Stone", "Royal Crown", "Silver Quill", "Snow Owl", "Stone Bridge", "Sun Wheel", "Tall Ship", "White Horse",
		"Wild Goose", "Winter Rose",
	}
	awardTails     = []string{"Prize", "Award", "Medal"}
	publisherHeads = []string{
		"Acorn", "Alder", "Anvil", "Barley", "Bluebell", "Castle", "Cedar", "Compass", "Crane", "Dolphin", "Ember", "Falcon", "Garnet", "Harvest",
		"Heron", "Island", "Juniper", "Kite", "Lantern", "Meadow", "Mill", "Nightjar", "Orchard", "Otter", "Pine", "Quarry", "Raven", "Sparrow",
		"Thistle", "Willow",
	}
	publisherTails  = []string{"Press", "Books", "House"}
	titleAdjectives = []string{
		"Amber", "Ancient", "Bitter", "Blind", "Borrowed", "Broken", "Burning", "Crooked", "Distant", "Drowned", "Empty", "Endless", "Faded",
		"Fallen", "Forgotten", "Frozen", "Gentle", "Gilded", "Hidden", "Hollow", "Hungry", "Last", "Lonely", "Lost", "Narrow", "Painted", "Patient",
		"Quiet", "Restless", "Scarlet", "Second", "Secret", "Silent", "Sleeping", "Stolen", "Sunken", "Tangled", "Velvet", "Wandering", "Yellow",
	}
	titleNouns = []string{
		"Attic", "Bell", "Bridge", "Candle", "Carousel", "Cathedral", "Chimney", "Clock", "Compass", "Door", "Feather", "Ferry", "Field", "Fountain",
		"Garden", "Harbour", "Horizon", "Island", "Key", "Ladder", "Lake", "Lantern", "Letter", "Lighthouse", "Mask", "Meadow", "Mirror", "Orchard",
		"Portrait", "Road", "Shadow", "Staircase", "Station", "Storm", "Thread", "Throne", "Tower", "Valley", "Violin", "Window",
	}
	titlePatterns = []string{"The %[1]s %[2]s", "The %[2]s of %[3]s", "A %[2]s for %[4]s", "Beyond the %[1]s %[2]s", "%[3]s and the %[2]s"}
	titleMatters  = []string{
		"Ash", "Autumn", "Bone", "Clay", "Dust", "Echoes", "Fire", "Frost", "Glass", "Honey", "Ice", "Iron", "Ivory", "Moonlight", "Paper", "Rain",
		"Rust", "Salt", "Sand", "Secrets", "Silk", "Smoke", "Snow", "Sorrow", "Stone", "Thorns", "Thunder", "Whispers", "Winter", "Wool",
	}
	homes = []string{
		"an old mill", "a white farmhouse", "a small flat", "a house by the lake", "a stone cottage", "a houseboat", "a former school", "a lighthouse",
		"a narrow brick house", "a wooden cabin", "a tower room", "a villa with a garden", "a converted barn", "a flat above a bakery",
		"a house on a hill", "an abandoned railway station",
	}
	hobbies = []string{
		"breeds horses", "collects old maps", "restores clocks", "grows roses", "keeps bees", "plays the cello", "sails at night", "paints birds",
		"bakes rye bread", "studies the stars", "repairs bicycles", "hunts for mushrooms", "carves wooden toys", "trains dogs", "swims in the river",
		"plays chess", "makes cheese", "climbs mountains", "knits scarves", "sings in a choir", "collects stamps", "feeds stray cats",
		"builds kites", "writes letters to strangers",
	}
	reasons = []string{
		"read to the family every evening", "told stories about the sea", "had lost a library in a fire", "owned only three books",
		"forbade novels at the table", "kept a secret diary", "moved house every year", "rented a room to a poet", "sold books at the market",
		"taught the children four languages", "printed a village newspaper", "wrote songs for weddings", "was ill for a whole winter",
		"never spoke about the past", "loved the theatre", "collected ghost stories",
	}
)
