package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v3"
)

// buildInfo is what identifies the program.
type buildInfo struct {
	Version  string            `json:"version"`
	Commit   string            `json:"commit,omitempty"`
	Modified bool              `json:"modified,omitempty"` // built from a changed working tree
	Go       string            `json:"go"`
	OS       string            `json:"os"`
	Arch     string            `json:"arch"`
	Settings map[string]string `json:"settings,omitempty"` // flags of the build that change code
	Modules  map[string]string `json:"modules,omitempty"`
}

// readBuild takes the build information that the Go linker put into the binary.
func readBuild() buildInfo {
	b := buildInfo{Version: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Settings: map[string]string{}, Modules: map[string]string{}}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "CGO_ENABLED", "GOAMD64", "GOARM64", "-tags", "-trimpath", "-race", "-ldflags", "-gcflags":
			b.Settings[s.Key] = s.Value
		}
	}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		b.Modules[d.Path] = d.Version
	}
	return b
}

func versionCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version, the commit and the modules of this binary",
		Description: `Examples:
  guardcpu version
  guardcpu version --json`,
		Action: func(_ context.Context, cmd *cli.Command) error {
			b := readBuild()
			if cmd.Bool("json") {
				return e.json(b)
			}
			fmt.Fprintf(e.stdout, "guardcpu %s\n", b.Version)
			if b.Commit != "" {
				fmt.Fprintf(e.stdout, "commit %s%s\n", b.Commit, map[bool]string{true: " (changed)"}[b.Modified])
			}
			fmt.Fprintf(e.stdout, "%s %s/%s\n", b.Go, b.OS, b.Arch)
			return nil
		},
	}
}
