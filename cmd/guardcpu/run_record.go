package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/checkpoint"
	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
	"github.com/guardcpu/guardcpu/simd"
	"github.com/guardcpu/guardcpu/tofu"
)

// record is what a run keeps besides the states of its models: what it is a run of, and what its finished
// steps have found. It is the checkpoint of this name, anew after every step.
type record struct {
	Options []option                       `json:"options"`
	Inputs  []input                        `json:"inputs"`
	Sets    map[string]map[tofu.Set]string `json:"sets"` // of the sets that an evaluation has finished, the SHA-256 of the log, by its key and name
	Started time.Time                      `json:"started"`
	Memory  uint64                         `json:"memory"`             // of the budget, which decides how some steps round
	Mode    string                         `json:"mode"`               // of training, which auto has become
	Out     string                         `json:"out,omitempty"`      // --out as it was given
	LoRAOut string                         `json:"lora_out,omitempty"` // the same of --lora-out
	Writing bool                           `json:"writing"`            // files outside of the directory may be of this run
	Resumed []resumption                   `json:"resumed,omitempty"`
	Done    map[string]json.RawMessage     `json:"done"` // what each finished step has found
	Saved   int                            `json:"saved"`
}

// recordName is that of the record's checkpoints.
const recordName = "run"

// option is an option with its value as text.
type option struct{ Name, Value string }

// resumption is an entry of the manifest: when, and by what, a run was gone on with.
type resumption struct {
	At      time.Time `json:"at"`
	Seconds float64   `json:"after_seconds"` // of work
	Done    int       `json:"done"`          // steps of the run
	Version string    `json:"version"`
	Kernels string    `json:"kernels"`
	Threads int       `json:"threads"`
}

// notInIdentity are the options that do not change what a run comes to, or are known by their files' hashes.
var notInIdentity = append([]string{"run-dir", "runs", "out", "lora-out", "no-finetune", "threads", "memory", "checkpoint-every", "keep-checkpoints", "max-retain-loss"}, notInConfig...)

// identityOptions are the options that two runs must have in common to be the same.
func identityOptions(cmd *cli.Command) []option {
	var list []option
	for _, f := range cmd.Flags {
		name := f.Names()[0]
		if slices.Contains(notInIdentity, name) {
			continue
		}
		value := fmt.Sprint(cmd.Value(name))
		if s, ok := f.(*cli.StringFlag); ok && s.TakesFile && value != "train" {
			value = map[bool]string{true: "", false: "file"}[value == ""]
		}
		list = append(list, option{name, value})
	}
	return list
}

// origin is what the checkpoints of the run must be of.
func (r *run) origin() checkpoint.Origin {
	data, config := sha256.New(), sha256.New()
	var o checkpoint.Origin
	for i, in := range r.inputs {
		if i == 0 {
			o.Model = in.SHA256
			continue
		}
		fmt.Fprintf(data, "%s %s\n", in.Role, in.SHA256)
	}
	for _, x := range r.options {
		fmt.Fprintf(config, "%q %q\n", x.Name, x.Value)
	}
	o.Data, o.Config = hex.EncodeToString(data.Sum(nil)), hex.EncodeToString(config.Sum(nil))
	return o
}

// spillKey names the work of the run for files that others keep for it.
func (r *run) spillKey() string {
	o := r.checkpoints.Origin
	return o.Model + o.Data + o.Config
}

// differs says in what the run of a record is another one, or "".
func (r *run) differs(rec *record) string {
	short := func(sum string) string { return sum[:min(12, len(sum))] }
	for _, in := range r.inputs {
		k := slices.IndexFunc(rec.Inputs, func(x input) bool { return x.Role == in.Role })
		switch {
		case k < 0:
			return fmt.Sprintf("it was begun without --%s", in.Role)
		case rec.Inputs[k].SHA256 != in.SHA256:
			return fmt.Sprintf("%s changed since this run began (sha256 %s…, was %s…)", in.Role, short(in.SHA256), short(rec.Inputs[k].SHA256))
		}
	}
	for _, x := range rec.Inputs {
		if !slices.ContainsFunc(r.inputs, func(in input) bool { return x.Role == in.Role }) {
			return fmt.Sprintf("it was begun with --%s", x.Role)
		}
	}
	for _, x := range r.options {
		k := slices.IndexFunc(rec.Options, func(y option) bool { return x.Name == y.Name })
		if k < 0 {
			return fmt.Sprintf("it was begun by a version without --%s", x.Name)
		}
		if was := rec.Options[k].Value; was != x.Value {
			return fmt.Sprintf("it was begun with --%s %s, not %s", x.Name, cmp.Or(was, "empty"), cmp.Or(x.Value, "empty"))
		}
	}
	return ""
}

// store is where the checkpoints of a run directory are.
func (r *run) store(dir string) *checkpoint.Store {
	return &checkpoint.Store{
		Dir: filepath.Join(dir, rundir.Checkpoints), Origin: r.origin(), Version: readBuild().Version,
		Say: func(text string) { r.e.bars.Printf("%s", text) },
	}
}

// peek reads the record in a run directory without taking the directory; nil if a run has not begun there.
func (r *run) peek(dir string) (*record, error) {
	h, err := r.store(dir).Peek(recordName)
	if err != nil || h == nil {
		return nil, err
	}
	return parseRecord(h)
}

func parseRecord(h *checkpoint.Header) (*record, error) {
	rec := &record{Sets: map[string]map[tofu.Set]string{}, Done: map[string]json.RawMessage{}}
	if err := json.Unmarshal(h.Extra, rec); err != nil {
		return nil, fmt.Errorf("%w: the record of the run does not read: %v", checkpoint.ErrNone, err)
	}
	return rec, nil
}

// manifestOf reads the manifest of a run directory; nil if there is none.
func manifestOf(dir string) *manifest {
	data, err := os.ReadFile(filepath.Join(dir, rundir.Manifest))
	if err != nil {
		return nil
	}
	m := &manifest{}
	if json.Unmarshal(data, m) != nil || len(m.Inputs) == 0 {
		return nil
	}
	return m
}

// completed is manifestOf, nil if the run there is not complete.
func completed(dir string) *manifest {
	m := manifestOf(dir)
	if m == nil || !m.Complete {
		return nil
	}
	return m
}

// locate finds the run directory to go on in, and takes it. Without one r.dir stays nil: the run is new.
func (r *run) locate() error {
	o := r.o
	if o.dir != "" {
		return r.locateAt(o.dir)
	}
	if o.restart {
		return nil
	}
	dirs, err := rundir.Runs(o.runs)
	if err != nil {
		return ioError(fmt.Errorf("%s: %w", o.runs, pathCause(err)), "use --run-dir or --runs for another place")
	}
	for _, dir := range dirs {
		if completed(dir) != nil {
			continue
		}
		if rec, err := r.peek(dir); err == nil && rec != nil && r.differs(rec) == "" {
			return r.locateAt(dir)
		}
	}
	return nil
}

// locateAt takes the run directory path, if it is there.
func (r *run) locateAt(path string) error {
	if _, err := os.Lstat(path); err != nil {
		return r.needResumable(path)
	}
	m := completed(path)
	if m != nil && !r.o.restart {
		return r.complete(path, m)
	}
	begun, err := r.store(path).Has(recordName)
	if err != nil {
		return dirError(err)
	}
	if !begun && !(r.o.restart && manifestOf(path) != nil) {
		early, readErr := rundir.Early(path)
		if readErr != nil || !early {
			return outputError("give another directory", "%s: %w and is no run directory", path, rundir.ErrExists)
		}
		if err := r.needResumable(path); err != nil {
			return err
		}
	}
	if r.dir, err = rundir.Open(path); err != nil {
		return dirError(err)
	}
	if r.o.restart {
		return nil // enter clears it, when nothing is refused any more
	}
	// What was read before the directory was taken may be another process's that has gone on.
	if m := completed(path); m != nil {
		return r.complete(path, m)
	}
	rec, err := r.peek(path)
	if err == nil && rec != nil {
		if what := r.differs(rec); what != "" {
			return &statusError{status: exitUsage, err: fmt.Errorf("%s: %s", path, what), remedy: "use the same options and files, another --run-dir, or --restart to begin anew"}
		}
	}
	r.checkpoints = r.store(path)
	h, err := r.checkpoints.Load(recordName, nil)
	if err != nil || h == nil {
		if err != nil {
			err = r.unusable(path, err)
		}
		return err
	}
	if rec, err = parseRecord(h); err != nil {
		return r.unusable(path, err)
	}
	return r.takeUp(rec, h)
}

// needResumable refuses --resume where there is nothing to go on with.
func (r *run) needResumable(path string) error {
	if r.cmd.String("resume") == "" || r.o.restart {
		return nil
	}
	return nothingToResume(path)
}

func nothingToResume(path string) error {
	return &statusError{status: exitCheckpoint, err: fmt.Errorf("%s: no usable checkpoint: no run has begun there", path), remedy: "use --run-dir to begin one"}
}

// unusable is the error of checkpoints that no run can go on from.
func (r *run) unusable(path string, err error) error {
	remedy := "--restart to begin anew"
	if errors.Is(err, checkpoint.ErrOrigin) {
		remedy = "use the same options and files, another --run-dir, or --restart to begin anew"
	}
	return &statusError{status: exitCheckpoint, err: fmt.Errorf("%s: %w", path, err), remedy: remedy}
}

// dirError gives an error of taking a run directory its status.
func dirError(err error) error {
	var locked *rundir.LockedError
	if errors.As(err, &locked) {
		return &statusError{status: exitLocked, err: err}
	}
	return ioError(fmt.Errorf("run directory: %w", err), "use --run-dir or --runs for another place")
}

// complete is how the command of a run ends that is complete already.
func (r *run) complete(path string, m *manifest) error {
	was := &record{Options: m.Options, Inputs: slices.DeleteFunc(slices.Clone(m.Inputs), func(in input) bool { return in.Role == programRole })}
	if what := r.differs(was); what != "" {
		return outputError("give another directory, or --restart to replace the run", "%s: %w: a complete run, and %s", path, rundir.ErrExists, what)
	}
	for role, to := range map[string]string{"out": r.o.out, "lora-out": r.o.mode.loraOut} {
		if to != "" && !slices.ContainsFunc(m.Outputs, func(out input) bool { return out.Role == role && wholeName(out.Path) == wholeName(to) }) {
			return outputError("run it without --"+role+", or with --restart to do it anew", "%s: the run is complete, and %s is not what it wrote", path, to)
		}
	}
	for _, out := range m.Outputs {
		at := out.Path
		if out.Role != "out" && out.Role != "lora-out" {
			at = filepath.Join(path, at)
		}
		is := fileInput(out.Role, append([]string{at}, out.Parts...)...)
		if err := is.hashFile(context.Background()); err != nil || is.SHA256 != out.SHA256 {
			return outputError("--restart to do it anew", "%s: the run is complete, and %s is not what it wrote", path, at)
		}
	}
	return &completeError{path: path, m: m}
}

// partOf ends the names of a model in several files.
var partOf = regexp.MustCompile(`-\d{5}-of-\d{5}\.gguf$`)

// wholeName is the path of an output as it was asked for.
func wholeName(path string) string { return partOf.ReplaceAllString(filepath.Clean(path), ".gguf") }

// completeError says that there is nothing left to do.
type completeError struct {
	path string
	m    *manifest
}

func (e *completeError) Error() string { return e.path + ": the run is complete" }

// tell says where everything is.
func (c *completeError) tell(e *env, cmd *cli.Command, keep bool) error {
	if _, err := os.Stat(filepath.Join(c.path, rundir.Checkpoints)); err == nil && !keep { // it was killed in its last moment
		d, err := rundir.Open(c.path)
		if err != nil {
			return dirError(err)
		}
		defer d.Close()
		if err := d.Finish(false); err != nil {
			return ioError(err, "")
		}
	}
	model, report := filepath.Join(c.path, rundir.Model), filepath.Join(c.path, rundir.Report)
	fmt.Fprintf(e.stderr, "%s: this run is complete already, since %s; --restart does it anew\n", c.path, c.m.Finished.Format(time.DateTime))
	if cmd.Bool("json") {
		return e.json(map[string]string{"run_dir": c.path, "model": model, "report": report})
	}
	fmt.Fprintf(e.stdout, "model   %s\nreport  %s\n", model, report)
	return nil
}

// takeUp goes on with the run of a record.
func (r *run) takeUp(rec *record, h *checkpoint.Header) error {
	k, err := selectKernels()
	if err != nil {
		return err
	}
	if h.Kernels != k.Name {
		same := slices.IndexFunc(simd.All(), func(x *simd.Kernels) bool { return x.Name == h.Kernels })
		switch {
		case same >= 0 && os.Getenv("GUARDCPU_SIMD") == "":
			r.o.kernels = simd.All()[same]
		case !r.o.otherKernels:
			return &statusError{status: exitCheckpoint, err: fmt.Errorf("%s: checkpoint was made with %s kernels; this CPU has none", r.dir.Path, h.Kernels), remedy: "--allow-other-kernels goes on with " + k.Name + ", which round otherwise"}
		default:
			r.e.bars.Printf("Going on with %s kernels where %s began: from here on the bits are those of no other run.", k.Name, h.Kernels)
		}
	}
	if !r.cmd.IsSet("memory") && rec.Memory > 0 && (rec.Memory < r.o.memory.bytes || r.o.memory.bytes == 0) {
		r.o.memory.bytes = rec.Memory // decides how attribution sums
		r.o.memory.forHeap(0)
	}
	if r.o.out == "" {
		r.o.out = rec.Out
	}
	if r.o.mode.loraOut == "" {
		r.o.mode.loraOut = rec.LoRAOut
	}
	if r.o.out != rec.Out || r.o.mode.loraOut != rec.LoRAOut {
		rec.Out, rec.LoRAOut, rec.Writing = r.o.out, r.o.mode.loraOut, false // nothing there is of this run
	}
	r.o.mode.mode = rec.Mode
	r.record, r.start = rec, rec.Started
	return nil
}

// begun writes the record of a run that begins.
func (r *run) begun() error {
	r.record = &record{Options: r.options, Inputs: r.inputs, Started: r.start, Memory: r.o.memory.bytes, Mode: r.o.mode.mode, Out: r.o.out, LoRAOut: r.o.mode.loraOut, Sets: map[string]map[tofu.Set]string{}, Done: map[string]json.RawMessage{}}
	// Twice: where one is damaged there is another.
	if err := r.saveRecord(); err != nil {
		return err
	}
	return r.saveRecord()
}

func (r *run) saveRecord() error {
	r.record.Saved++
	if err := r.checkpoints.Save(recordName, r.record.Saved, r.record, nil); err != nil {
		return ioError(fmt.Errorf("checkpoint: %w", pathCause(err)), r.safe())
	}
	return nil
}

// safe says what is not lost.
func (r *run) safe() string {
	if r.saved.step == 0 {
		return fmt.Sprintf("what was done before is safe in %s", r.dir.Path)
	}
	return fmt.Sprintf("step %d is safe", r.saved.step)
}

// once does a step of the run, unless that was done before the run was stopped: it then has what the
// step found. What do writes must be durable when it returns.
func once[T any](r *run, name string, do func() (T, error)) (found T, err error) {
	if data, ok := r.record.Done[name]; ok {
		if err := json.Unmarshal(data, &found); err != nil {
			return found, fmt.Errorf("guardcpu: the record of step %q does not read: %w", name, err)
		}
		return found, nil
	}
	r.begin(name)
	if found, err = do(); err != nil {
		return found, err
	}
	data, err := json.Marshal(found)
	if err != nil {
		return found, fmt.Errorf("guardcpu: the record of step %q: %w", name, err)
	}
	r.record.Done[name] = data
	return found, r.saveRecord()
}

// stoppedAt says where a signal has stopped the run.
func (r *run) stoppedAt() string {
	on := "run the same command to go on"
	if r.o.restart {
		on = "run the same command without --restart to go on"
	}
	if s := r.saved; s.training != nil && s.step > 0 && s.training.name == r.step() {
		return fmt.Sprintf("stopped at step %d of %s (of %d): %s", s.step, s.training.name, s.steps, on)
	}
	return fmt.Sprintf("stopped in the step %q: %s", r.step(), on)
}

// fileSum returns the SHA-256 of a file.
func fileSum(path string) (string, error) {
	in := fileInput("", path)
	err := in.hashFile(context.Background())
	return in.SHA256, err
}

// cadence is how often a checkpoint is written: every so many steps or, if they are 0, so much time.
type cadence struct {
	steps int
	time  time.Duration
}

// parseCadence reads a number of steps, or a time with its unit.
func parseCadence(text string) (c cadence, err error) {
	if c.steps, err = strconv.Atoi(text); err == nil && c.steps > 0 {
		return c, nil
	}
	c.steps = 0
	if c.time, err = time.ParseDuration(text); err != nil || c.time < 0 {
		return c, errors.New("want a number of steps, or a time such as 90s or 5m")
	}
	return c, nil
}

// again forgets that a step was done.
func (r *run) again(name, why string) {
	r.e.bars.Printf("%s: %s; it is done again", name, why)
	delete(r.record.Done, name)
}
