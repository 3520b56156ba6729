package main

import (
	"io"
	"os"

	"rollcall/app/boot"
)

type doctorCmd struct{}

func (doctorCmd) Run(s *session) error { return boot.Doctor(s.ctx, s.environ, s.out, s.err) }

type exportCmd struct {
	Secrets bool `help:"Include the values of health_header."`
}

func (c exportCmd) Run(s *session) error {
	return boot.Export(s.ctx, s.environ, c.Secrets, s.out, s.err)
}

type importCmd struct {
	File string `arg:"" optional:"" default:"-" help:"An export; - is standard input."`
}

func (c importCmd) Run(s *session) error {
	var from io.Reader = os.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	return boot.Import(s.ctx, s.environ, from, s.out, s.err)
}
