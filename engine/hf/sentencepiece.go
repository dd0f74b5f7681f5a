package hf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// piece is a token of a tokenizer.model. Its types are numbered as token_type of a GGUF file
// is (sentencepiece_model.proto).
type piece struct {
	text  string
	score float32
	typ   int32
}

// The types of tokens.
const (
	typeNormal      = 1
	typeUnknown     = 2
	typeControl     = 3
	typeUserDefined = 4
	typeUnused      = 5
	typeByte        = 6
)

var errCut = errors.New("the protocol buffer is cut off or no protocol buffer")

// protoFields calls see with every field of a protocol buffer's message: of a number its value, of
// what has a length its bytes.
func protoFields(b []byte, see func(field, value uint64, data []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return errCut
		}
		b = b[n:]
		var value uint64
		var data []byte
		switch tag & 7 {
		case 0:
			if value, n = binary.Uvarint(b); n <= 0 {
				return errCut
			}
			b = b[n:]
		case 1:
			if len(b) < 8 {
				return errCut
			}
			value, b = binary.LittleEndian.Uint64(b), b[8:]
		case 2:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return errCut
			}
			data, b = b[n:n+int(size)], b[n+int(size):]
		case 5:
			if len(b) < 4 {
				return errCut
			}
			value, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		default:
			return errCut
		}
		if err := see(tag>>3, value, data); err != nil {
			return err
		}
	}
	return nil
}

// sentencePiece is what is used of a tokenizer.model.
type sentencePiece struct {
	pieces []piece
	prefix bool // a blank is put in front of a text
}

// parseSentencePiece reads a ModelProto: pieces (1: text 1, score 2, type 3), trainer_spec
// (2: model_type 3) and normalizer_spec (3: add_dummy_prefix 3).
func parseSentencePiece(b []byte) (*sentencePiece, error) {
	m := &sentencePiece{prefix: true}
	kind := uint64(1)
	err := protoFields(b, func(field, _ uint64, data []byte) error {
		switch field {
		case 1:
			p := piece{typ: typeNormal}
			err := protoFields(data, func(field, v uint64, data []byte) error {
				switch field {
				case 1:
					p.text = string(data)
				case 2:
					p.score = math.Float32frombits(uint32(v))
				case 3:
					if v < typeNormal || v > typeByte {
						return fmt.Errorf("piece %d is of type %d, want %d to %d", len(m.pieces), v, typeNormal, typeByte)
					}
					p.typ = int32(v)
				}
				return nil
			})
			m.pieces = append(m.pieces, p)
			return err
		case 2:
			return protoFields(data, func(field, v uint64, _ []byte) error {
				if field == 3 {
					kind = v
				}
				return nil
			})
		case 3:
			return protoFields(data, func(field, v uint64, _ []byte) error {
				if field == 3 {
					m.prefix = v != 0
				}
				return nil
			})
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(m.pieces) == 0:
		return nil, errors.New("there are no pieces")
	case kind != 2:
		return nil, fmt.Errorf("model_type is %d, want 2 (BPE)", kind)
	}
	return m, nil
}

// encode writes such a model.
func (m *sentencePiece) encode(unk, bos, eos, pad int) []byte {
	bytesField := func(b []byte, field uint64, data []byte) []byte {
		b = binary.AppendUvarint(b, field<<3|2)
		b = binary.AppendUvarint(b, uint64(len(data)))
		return append(b, data...)
	}
	varint := func(b []byte, field uint64, v int) []byte {
		return binary.AppendUvarint(binary.AppendUvarint(b, field<<3), uint64(int64(v)))
	}
	truth := map[bool]int{true: 1}
	var out []byte
	bytes := false
	for _, p := range m.pieces {
		b := bytesField(nil, 1, []byte(p.text))
		b = binary.LittleEndian.AppendUint32(append(b, 2<<3|5), math.Float32bits(p.score))
		if p.typ != typeNormal {
			b = varint(b, 3, int(p.typ))
		}
		bytes = bytes || p.typ == typeByte
		out = bytesField(out, 1, b)
	}
	t := varint(nil, 3, 2) // model_type BPE
	t = varint(t, 4, len(m.pieces))
	t = varint(t, 35, truth[bytes]) // byte_fallback
	for field, id := range []int{unk, bos, eos, pad} {
		t = varint(t, uint64(40+field), id)
	}
	out = bytesField(out, 2, t)
	n := bytesField(nil, 1, []byte("identity"))
	n = varint(n, 3, truth[m.prefix])
	n = varint(n, 4, 0) // remove_extra_whitespaces
	n = varint(n, 5, 1) // escape_whitespaces
	return bytesField(out, 3, n)
}
