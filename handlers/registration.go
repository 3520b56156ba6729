package handlers

import (
	"time"

	"rollcall/app"
)

// registration is app.Registration as it is sent. What callers may say freely is
// limited here; what a field means, and whether it can be, is the domain's business.
type registration struct {
	Service  string `field:"service"`
	ID       string `field:"id"`
	Boot     string `field:"boot" validate:"text=128"`
	Replaces string `field:"replaces"`
	Address  string `field:"address" validate:"text=300"`
	Port     int    `field:"port"`
	Caller   string // nobody says that of himself
	Rules    app.Rules
	Hosts    []string          `field:"host"`
	Health   string            `field:"health"`
	Expect   []string          `field:"expect" validate:"dive,text=200"`
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

	Declared, Awaited bool // not fields: see app.Registration
}

// registration reads one registration, which came from caller.
func (b body) registration(caller string) (app.Registration, error) {
	set, err := b.fields()
	if err != nil {
		return app.Registration{}, err
	}
	r := registration{Caller: caller}
	err = decode("field", set, &r)
	return app.Registration(r), err
}
