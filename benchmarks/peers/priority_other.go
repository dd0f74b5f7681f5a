//go:build !linux

package main

// renice does nothing here.
func renice() {}
