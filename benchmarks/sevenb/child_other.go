//go:build !linux

package main

import "os"

// Elsewhere than on Linux nothing is known of memory, and nothing forced.

func lookAt(int) look                { return look{} }
func peakRSS(*os.ProcessState) int64 { return 0 }
func forget(*os.File) error          { return nil }
