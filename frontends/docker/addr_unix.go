//go:build !windows

package main

const (
	defaultAddr = "unix:///tmp/sockerless.sock"
	pipeHelp    = ""
)
