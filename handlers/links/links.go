// Package links sets the environment variables of Docker links from healthy instances.
package links

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"

	"rollcall/app"
	"rollcall/handlers/input"
)

// Variable is an environment variable that a Docker link sets.
type Variable struct{ Name, Value string }

// Link is a service under the alias that a program expects.
type Link struct {
	Service string
	Alias   string
	Port    string // the port that the program expects; empty: the instance's own
}

// Parse reads service[:alias[:port]].
func Parse(s string) (Link, error) {
	parts := strings.Split(s, ":")
	l := Link{Service: parts[0], Alias: parts[0]}
	if len(parts) > 1 && parts[1] != "" {
		l.Alias = parts[1]
	}
	if len(parts) > 2 {
		l.Port = parts[2]
	}
	if err := l.Check(); err != nil || len(parts) <= 3 {
		return l, err
	}
	return l, malformed()
}

// Check returns a FieldError unless the service, the alias and the port are valid.
func (l Link) Check() error {
	switch {
	case l.Port != "" && !validPort(l.Port):
		return &app.FieldError{Field: "port", Problem: "is " + input.Quote(l.Port), Want: "give a number from 1 to 65535"}
	case l.Service == "":
		return malformed()
	}
	return nil
}

func malformed() error {
	return &app.FieldError{Field: "link", Problem: "is malformed", Want: "give service, service:alias or service:alias:port"}
}

func validPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil && s[0] != '0'
}

// Variables returns the variables that Docker sets in a container that is linked to another container:
// https://docs.docker.com/engine/network/links/#environment-variables
func (l Link) Variables(i app.Instance) []Variable {
	host, own, _ := net.SplitHostPort(i.Address) // canonical
	known := l.Port
	if known == "" {
		known = own
	}
	prefix := envName(l.Alias)
	tcp := "tcp://" + i.Address
	port := prefix + "_PORT_" + known + "_TCP"
	return []Variable{
		{prefix + "_NAME", "/" + l.Service + "/" + l.Alias},
		{prefix + "_PORT", tcp},
		{port, tcp},
		{port + "_ADDR", host},
		{port + "_PORT", own},
		{port + "_PROTO", "tcp"},
	}
}

// envName turns an alias into the beginning of a variable's name, as Docker does.
func envName(s string) string {
	name := strings.ToUpper(strings.Map(LabelRune, s))
	if name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

// Lines returns variables as lines: shell commands (export), or an .env file (dotenv).
func Lines(all []Variable, format string) string {
	lead := ""
	if format == "export" {
		lead = "export "
	}
	var text strings.Builder
	for _, v := range all {
		fmt.Fprintf(&text, "%s%s=%s\n", lead, v.Name, v.Value) // addresses and names need no quotes
	}
	return text.String()
}

// ValidAlias reports whether an alias gives a name that a shell accepts.
func ValidAlias(s string) bool {
	return s != "" && len(s) <= 64 && strings.IndexFunc(s, func(r rune) bool {
		return LabelRune(r) == '_' && r != '_' && r != '-' && r != '.'
	}) < 0
}

// LabelRune returns a character of a label or variable: letters and digits as they are, and _ for any other.
func LabelRune(r rune) rune {
	if r <= unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
		return r
	}
	return '_'
}
