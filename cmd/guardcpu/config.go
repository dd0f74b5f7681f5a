package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/urfave/cli/v3"

	"github.com/guardcpu/guardcpu/cmd/guardcpu/internal/rundir"
)

// commonFlags are the options every command has.
func commonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "read options from a YAML `FILE` with the same names; options given here override it", Category: "common", TakesFile: true},
		&cli.BoolFlag{Name: "json", Usage: "print the result as JSON on standard output, everything else on standard error", Category: "common"},
	}
}

// notInConfig are the options that say where one invocation writes or how it
// talks; they neither belong into a configuration nor are written into one.
var notInConfig = []string{"config", "help", "force", "json", "resume", "restart", "allow-other-kernels"}

// flagNames returns the names a configuration of cmd may hold, in the order of --help.
func flagNames(cmd *cli.Command) []string {
	var names []string
	for _, f := range cmd.Flags {
		if name := f.Names()[0]; !slices.Contains(notInConfig, name) {
			names = append(names, name)
		}
	}
	return names
}

// applyConfig sets the options of cmd that --config names and the command line does not.
// The file is one YAML mapping from option names to scalars or lists of scalars.
func applyConfig(cmd *cli.Command) error {
	path := cmd.String("config")
	if dir := cmd.String("resume"); dir != "" { // of run
		if path != "" || cmd.IsSet("run-dir") {
			return usageError("--resume takes directory and options from its argument; use it without --config and --run-dir")
		}
		path = filepath.Join(dir, rundir.Config)
		if err := cmd.Set("run-dir", dir); err != nil {
			return err
		}
	}
	if path == "" {
		return nil
	}
	data, err := readFile(path)
	if dir := cmd.String("resume"); errors.Is(err, fs.ErrNotExist) && dir != "" {
		return nothingToResume(dir)
	}
	if err != nil {
		return &statusError{status: exitUsage, err: fmt.Errorf("%s: %w", path, err), remedy: "--config wants a YAML file"}
	}
	return setOptions(cmd, path, data)
}

// setOptions is applyConfig of the file's content.
func setOptions(cmd *cli.Command, path string, data []byte) error {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		var syntax yaml.Error
		if asError(err, &syntax) {
			p := syntax.GetToken().Position
			return usageError("%s: line %d, column %d: %s", path, p.Line, p.Column, syntax.GetMessage())
		}
		return usageError("%s: %w", path, err)
	}
	if len(file.Docs) > 1 {
		return usageError("%s: holds %d YAML documents, want one", path, len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil
	}
	var entries []*ast.MappingValueNode
	switch body := file.Docs[0].Body.(type) {
	case *ast.MappingNode:
		entries = body.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{body}
	case *ast.CommentGroupNode:
	default:
		return usageError("%s: line %d: found %s, want lines of `option: value`", path, body.GetToken().Position.Line, strings.ToLower(body.Type().String()))
	}
	names := flagNames(cmd)
	seen := map[string]int{}
	for _, entry := range entries {
		line := entry.Key.GetToken().Position.Line
		name := entry.Key.GetToken().Value
		if !slices.Contains(names, name) {
			return usageError("%s: line %d: %q is not an option of %s; %s", path, line, name, cmd.Name, suggest(name, names))
		}
		if first, twice := seen[name]; twice {
			return usageError("%s: line %d: %q is given twice, first on line %d", path, line, name, first)
		}
		seen[name] = line
		values, err := scalars(entry.Value)
		if err != nil {
			return usageError("%s: line %d: %s: %w", path, line, name, err)
		}
		if cmd.IsSet(name) {
			continue // the command line wins
		}
		for _, v := range values {
			if err := cmd.Set(name, v); err != nil {
				return usageError("%s: line %d: %s: %q: %s", path, line, name, v, plainSyntax(err.Error()))
			}
		}
	}
	return nil
}

// scalars returns the text of a scalar, or of each scalar of a list. null gives none.
func scalars(node ast.Node) ([]string, error) {
	switch n := node.(type) {
	case nil, *ast.NullNode:
		return nil, nil
	case *ast.SequenceNode:
		var all []string
		for _, v := range n.Values {
			one, err := scalars(v)
			if err != nil {
				return nil, err
			}
			all = append(all, one...)
		}
		return all, nil
	case *ast.StringNode:
		return []string{n.Value}, nil
	case *ast.LiteralNode:
		return []string{n.Value.Value}, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode:
		return []string{n.GetToken().Value}, nil
	default:
		return nil, fmt.Errorf("found %s, want a value or a list of values", strings.ToLower(node.Type().String()))
	}
}

// configYAML writes every option of cmd with its value, the usage as comment, in
// the form applyConfig reads. skip names options that are left out.
func configYAML(cmd *cli.Command, skip ...string) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# guardcpu %s --config THIS_FILE does this again. Paths are relative to the directory it is started in.\n", cmd.Name)
	for _, f := range cmd.Flags {
		name := f.Names()[0]
		if slices.Contains(notInConfig, name) || slices.Contains(skip, name) {
			continue
		}
		value := cmd.Value(name)
		if s, ok := value.(string); ok && s == "" {
			continue // not given: null would read the same, but tells nothing
		}
		line, err := yaml.Marshal(map[string]any{name: value})
		if err != nil {
			return nil, err
		}
		if doc, ok := f.(cli.DocGenerationFlag); ok {
			fmt.Fprintf(&b, "\n# %s\n", strings.NewReplacer("\n", " ", "`", "").Replace(doc.GetUsage()))
		}
		b.Write(line)
	}
	return []byte(b.String()), nil
}
