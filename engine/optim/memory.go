package optim

// Bytes returns what an optimizer of that name remembers of tensors of the given shapes from
// update to update; 0 for a name that is not known.
func Bytes(name string, o Options, shapes []Shape) (n uint64) {
	for _, s := range shapes {
		all := s.Rows * s.Cols
		switch name {
		case "adamw":
			n += 2 * 4 * uint64(all)
		case "adafactor":
			n += 4 * uint64(s.Cols)
			if s.Rows > 1 {
				n += 4 * uint64(s.Rows)
			}
		case "sgd":
			if o.Momentum != 0 {
				n += 4 * uint64(all)
			}
		}
	}
	return n
}
