package hf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/guardcpu/guardcpu/gguf"
)

// maxJSON bounds a JSON file that is read whole; the largest tokenizer.json have 40 MB.
const maxJSON = 256 << 20

// maxShards bounds the files of a checkpoint.
const maxShards = 10_000

// Checkpoint is an open directory. Files may be links, as they are in Hugging Face's cache.
type Checkpoint struct {
	Dir     string
	family  *family
	config  config
	arrays  []array // in the order of the files and of what lies in them
	index   map[string]int
	maps    [][]byte
	unmap   []func() error
	missing bool // there are no weights, which only Export's Like allows
}

// Open reads config.json and the headers of the weights.
func Open(dir string) (*Checkpoint, error) {
	c, err := open(dir)
	if err != nil {
		return nil, err
	}
	if c.missing {
		c.Close()
		if m, _ := filepath.Glob(filepath.Join(dir, "*.bin")); len(m) > 0 {
			return nil, fmt.Errorf("hf: %s: the weights are a pickle (%s), which can run any program when it is read; save them with save_pretrained(…, safe_serialization=True)", dir, filepath.Base(m[0]))
		}
		return nil, fmt.Errorf("hf: %s has neither model.safetensors nor model.safetensors.index.json", dir)
	}
	return c, nil
}

func open(dir string) (c *Checkpoint, err error) {
	c = &Checkpoint{Dir: dir, index: map[string]int{}}
	found, err := c.readJSON("config.json", &c.config)
	if err == nil && !found {
		err = fmt.Errorf("hf: %s has no config.json; give the directory of a Hugging Face checkpoint", dir)
	}
	if err == nil {
		c.config = c.config.flat()
		c.family, err = familyOf(c.config)
		if err != nil {
			err = fmt.Errorf("hf: %s: %w", filepath.Join(dir, "config.json"), err)
		}
	}
	if err == nil {
		err = c.openWeights()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close unmaps the weights.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, unmap := range c.unmap {
		errs = append(errs, unmap())
	}
	c.maps, c.unmap, c.arrays = nil, nil, nil
	return errors.Join(errs...)
}

// Arch returns the architecture that the checkpoint has in a GGUF file.
func (c *Checkpoint) Arch() string { return c.family.arch }

// Bytes returns the size of the weights.
func (c *Checkpoint) Bytes() (n uint64) {
	for _, a := range c.arrays {
		n += uint64(len(a.data))
	}
	return n
}

func (c *Checkpoint) openWeights() error {
	const single, indexName = "model.safetensors", "model.safetensors.index.json"
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	sharded, err := c.readJSON(indexName, &index)
	if err != nil {
		return err
	}
	files := []string{single}
	if sharded {
		files = nil
		for name, file := range index.WeightMap {
			if file == "" || filepath.Base(file) != file || !filepath.IsLocal(file) {
				return fmt.Errorf("hf: %s: %s is in %s, want a file of the directory", filepath.Join(c.Dir, indexName), quote(name), quote(file))
			}
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
			if len(files) > maxShards {
				return fmt.Errorf("hf: %s names more than %d files", filepath.Join(c.Dir, indexName), maxShards)
			}
		}
		slices.Sort(files)
	} else if _, err := os.Stat(filepath.Join(c.Dir, single)); errors.Is(err, fs.ErrNotExist) {
		c.missing = true
		return nil
	}
	for _, file := range files {
		path := filepath.Join(c.Dir, file)
		data, unmap, err := gguf.Map(path)
		if err != nil {
			return fmt.Errorf("hf: %s: %w", path, cause(err))
		}
		c.maps, c.unmap = append(c.maps, data), append(c.unmap, unmap)
		arrays, err := parseSafetensors(path, data)
		if err != nil {
			return err
		}
		for _, a := range arrays {
			if sharded && index.WeightMap[a.name] != file {
				return fmt.Errorf("hf: %s has tensor %s, which %s does not say", path, quote(a.name), indexName)
			}
			if _, twice := c.index[a.name]; twice {
				return fmt.Errorf("hf: %s: tensor %s is in two files", path, quote(a.name))
			}
			c.index[a.name] = len(c.arrays)
			c.arrays = append(c.arrays, a)
		}
	}
	var lost []string
	for name := range index.WeightMap {
		if _, ok := c.index[name]; !ok {
			lost = append(lost, name)
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("hf: %s: the files lack %s", filepath.Join(c.Dir, indexName), some(lost))
	}
	return nil
}

// readJSON reads a JSON file of the directory, if it is there.
func (c *Checkpoint) readJSON(name string, v any) (bool, error) {
	data, err := c.read(name)
	if data == nil || err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("hf: %s: %w", filepath.Join(c.Dir, name), err)
	}
	return true, nil
}

// read returns a file of the directory, nil if it is not there.
func (c *Checkpoint) read(name string) ([]byte, error) {
	path := filepath.Join(c.Dir, name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(c.Dir); err != nil {
			return nil, fmt.Errorf("hf: %s: %w", c.Dir, cause(err))
		}
		return nil, nil
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("hf: %s: %w", path, cause(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("hf: %s is no regular file", path)
	case info.Size() > maxJSON:
		return nil, fmt.Errorf("hf: %s has %d bytes, at most %d are read", path, info.Size(), maxJSON)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("hf: %s: %w", path, cause(err))
	}
	return data, nil
}

// cause is the reason in an error that repeats the path.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// some names some of many names, sorted.
func some(names []string) string {
	slices.Sort(names)
	const most = 8
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}

// Forget drops the pages of the weights that have been read.
func (c *Checkpoint) Forget() {
	for _, m := range c.maps {
		gguf.Forget(m)
	}
}
