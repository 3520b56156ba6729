//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"rollcall/app/boot"
	"rollcall/app/entrypoint"
)

type runCmd struct {
	Env        []string      `sep:"none" placeholder:"SERVICE[:ALIAS[:PORT]]" help:"Start the command with the variables of this service, as rollcall env prints them; repeatable."`
	EnvTimeout time.Duration `default:"30s" help:"How long to wait for those services."`
	EnvFile    string        `placeholder:"PATH" help:"Keep the variables in this file, too."`
	OnChange   string        `enum:",HUP,INT,QUIT,TERM,USR1,USR2" default:"" placeholder:"SIGNAL" help:"Send the command HUP, USR1, USR2, INT, QUIT or TERM when the file in $$ROLLCALL_ENV_FILE has changed."`

	Command []string `arg:"" passthrough:"" help:"The command and its arguments."`
}

// Help returns the text of rollcall run --help.
func (runCmd) Help() string {
	return "Starts the command at once, keeps it registered while it runs, passes signals on, and on TERM, INT or QUIT drains " +
		"it before the command gets the signal. Does the same as docker/rollcall.sh, for images without a shell, with " +
		"the same variables: ROLLCALL_URL, ROLLCALL_SERVICE, ROLLCALL_PORT, ROLLCALL_HOST, ROLLCALL_HEALTH, ... " +
		"With --env it waits for other services first."
}

// Run does not return once the command has started: the exit code is the command's.
func (c runCmd) Run(s *session) error {
	command := c.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return errors.New("run: no command is given: rollcall run -- COMMAND [ARGUMENT...]")
	}
	for _, line := range boot.MisspeltClientVariables(s.environ) {
		fmt.Fprintln(s.err, "rollcall:", line)
	}
	code, err := entrypoint.Run(s.ctx, entrypoint.Options{
		Command: command, Environ: s.environ, Log: s.err,
		Links: c.Env, LinksTimeout: c.EnvTimeout, LinksFile: c.EnvFile, OnChange: c.OnChange,
	})
	if err != nil {
		return answerNo{fmt.Errorf("run: %w", err)} // other codes are the command's
	}
	os.Exit(code)
	return nil
}
