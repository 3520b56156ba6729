//go:build !unix

package main

import "errors"

type runCmd struct {
	Command []string `arg:"" passthrough:"" help:"The command and its arguments."`
}

// Run says that there is nothing to be an entrypoint of.
func (runCmd) Run(*session) error {
	return errors.New("run: it is for containers, and this is not Unix")
}
