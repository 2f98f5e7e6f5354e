package main

const (
	defaultAddr = "npipe:////./pipe/sockerless"
	pipeHelp    = " or npipe:////./pipe/name"
)
