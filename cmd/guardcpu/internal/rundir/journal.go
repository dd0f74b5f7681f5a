package rundir

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// openJournal opens progress.jsonl to append to it. A last line that a killed process did not complete
// is cut off, and time goes on from the last event.
func (d *Dir) openJournal() error {
	f, err := os.OpenFile(d.File(Progress), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	t, err := repair(f)
	if err != nil {
		f.Close()
		return err
	}
	d.journal, d.start = f, time.Now().Add(-t)
	return nil
}

// repair cuts an incomplete last line off, and returns the time of the last event.
func repair(f *os.File) (t time.Duration, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const longest = 1 << 20 // of two lines: events are short
	from := max(0, info.Size()-longest)
	tail := make([]byte, info.Size()-from)
	if _, err := f.ReadAt(tail, from); err != nil && err != io.EOF {
		return 0, err
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	if whole < len(tail) {
		if err := f.Truncate(from + int64(whole)); err != nil {
			return 0, err
		}
	}
	if whole == 0 {
		return 0, nil
	}
	var event struct{ T float64 }
	last := tail[bytes.LastIndexByte(tail[:whole-1], '\n')+1 : whole]
	if json.Unmarshal(last, &event) != nil || !(event.T > 0 && event.T < 1e9) {
		return 0, nil // the journal is for people: it ends no run
	}
	return time.Duration(event.T * float64(time.Second)), nil
}

// Event appends one line to the journal: the seconds that have been worked, the name of
// the event, and the fields, in this order. Fields of a value that JSON cannot hold
// (NaN, infinities) are written as text.
func (d *Dir) Event(name string, fields ...Field) error {
	line := []byte(fmt.Sprintf(`{"t":%.3f,"event":%q`, d.Elapsed().Seconds(), name))
	for _, f := range fields {
		v, err := json.Marshal(f.Value)
		if err != nil {
			if v, err = json.Marshal(fmt.Sprint(f.Value)); err != nil {
				return err
			}
		}
		line = append(line, ',')
		line = append(line, fmt.Sprintf("%q:", f.Name)...)
		line = append(line, v...)
	}
	line = append(line, "}\n"...)
	_, err := d.journal.Write(line)
	return err
}

// Field is one named value of an event.
type Field struct {
	Name  string
	Value any
}
