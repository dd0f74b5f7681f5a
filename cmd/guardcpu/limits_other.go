//go:build !linux

package main

import "io/fs"

// processLimits is known on Linux only.
func processLimits(fs.FS) []limit { return nil }
