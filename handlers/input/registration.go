package input

import (
	"net/http"
	"time"

	"rollcall/app"
)

// registration is app.Registration with the tags of its fields. The tags bound free text;
// the domain checks the meaning of each field.
type registration struct {
	Service      string `field:"service"`
	ID           string `field:"id"`
	Boot         string `field:"boot" validate:"text=128"`
	Replaces     string `field:"replaces"`
	Address      string `field:"address" validate:"text=300"`
	Port         int    `field:"port"`
	Caller       string // set by the handler, from the connection
	Rules        app.Rules
	Hosts        []string `field:"host"`
	Health       string   `field:"health"`
	HealthHost   string   `field:"health_host" validate:"text=300"`
	HealthMethod string   `field:"health_method" validate:"text=80"`
	HealthHeader []string `field:"health_header"` // the domain checks it: an error must not quote it
	Expect       []string `field:"expect" validate:"dive,text=200"`

	TLSSkipVerify *bool  `field:"tls_skip_verify"`
	TLSServerName string `field:"tls_server_name" validate:"text=300"`

	Weight   *int              `field:"weight"`
	FailOpen *bool             `field:"fail_open"`
	Tags     []string          `field:"tag" validate:"max=20,dive,text=64"`
	Meta     map[string]string `field:"meta" validate:"max=20,dive,keys,text=64,endkeys,text=256"`
	Interval *time.Duration    `field:"interval"`
	Timeout  *time.Duration    `field:"timeout"`
	Grace    *time.Duration    `field:"grace"`
	Forget   *time.Duration    `field:"forget"`
	Rise     *int              `field:"rise"`
	Fall     *int              `field:"fall"`

	Declared, Awaited bool // set by the handler: see app.Registration
}

// Entry is one registration of a body, or the error in it.
type Entry struct {
	Registration app.Registration
	Err          error
}

// Registrations reads the registrations of a body: one from a form or an object, or those of an array,
// each with its own error. It returns an error if the body is no form and no JSON, or if the array is empty or
// has more than MaxEntries entries.
func Registrations(r *http.Request) (entries []Entry, isArray bool, err error) {
	b, err := readBody(r)
	if err != nil {
		return nil, false, err
	}
	bodies, err := b.entries()
	if err != nil {
		return nil, b.isArray(), err
	}
	entries = make([]Entry, len(bodies))
	for n, one := range bodies {
		entries[n].Registration, entries[n].Err = one.registration()
	}
	return entries, b.isArray(), nil
}

func (b body) registration() (app.Registration, error) {
	set, err := b.fields()
	if err != nil {
		return app.Registration{}, err
	}
	var r registration
	err = decode("field", set, &r)
	return app.Registration(r), err
}
