package input_test

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"rollcall/app"
	"rollcall/handlers/input"
)

// FuzzParseRegistration parses any body without a panic. Every accepted registration is canonical, and every error
// names the caller's mistake.
func FuzzParseRegistration(f *testing.F) {
	for _, form := range []string{
		"", "service=web&port=80", "service=web&address=[::1]:80&host=*.A.test.&host=b&health=/x?y", "service=web&port=80&health=:81/&expect=200&expect=ok",
		"service=web&port=80&interval=1s&timeout=1ms&grace=1h&forget=1h&rise=1&fall=1&weight=2&fail_open=false", "service=web&port=80&tag=a&tag=b&meta.a=1&meta.b=",
		"service=web&port=70000", "service=%ff&port=%00", "a;b", "=1.2.3.4&service=web&port=80", "service=web&port=1&id=a&boot=b&replaces=c", "meta=x", "%zz",
		"service=web&address=WEB.:80", "service=web&address=1.2.3.4.:80&health=http://1.2.3.4/", "service=web&address=::ffff:1.2.3.4&port=80",
	} {
		f.Add([]byte(form), false)
		f.Add([]byte(form), true)
	}
	for _, text := range []string{
		`{"service":"web","port":80}`, `[{"service":"web","port":80},{"service":"web","address":"WEB:81","host":["A.test","b"]},5,null,{}]`,
		`{"service":"web","port":80,"meta":{"a":1,"b":true,"c":null},"meta.d":"e"}`, `{"service":["web"],"port":[80],"host":[]}`, `{"port":1e2,"service":"w"}`,
		`{"a":1,"a":2}`, `{"meta":{"meta":{"meta":{}}}}`, `{`, `[`, `"`, `[[]]`, `[]`, `{"":""}`, `{"service":"\ud800","port":80}`, "\ufeff{}", `{"a":[{"b":[`, ` { "service" : "web" , "port" : 80 } `,
	} {
		f.Add([]byte(text), true)
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, json bool) {
		r := httptest.NewRequest(http.MethodPost, "/v1/register", bytes.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Content-Type", map[bool]string{true: "application/json", false: "application/x-www-form-urlencoded"}[json])
		entries, _, err := input.Registrations(r)
		if err != nil {
			callersFault(t, err)
			return
		}
		if len(entries) == 0 || len(entries) > input.MaxEntries {
			t.Fatalf("%d registrations", len(entries))
		}
		for _, entry := range entries {
			if entry.Err != nil {
				callersFault(t, entry.Err)
				continue
			}
			reg := entry.Registration
			if reg.Caller != "" {
				t.Fatalf("the body sets the caller to %q", reg.Caller)
			}
			reg.Caller = "10.0.0.7"
			i, _, err := reg.Instance()
			if err != nil {
				callersFault(t, err)
				continue
			}
			canonical(t, i)
		}
	})
}

func callersFault(t *testing.T, err error) {
	t.Helper()
	var field, want string
	if hint, ok := errors.AsType[*input.HintError](err); ok {
		want = hint.Want
	}
	if fault, ok := errors.AsType[*app.FieldError](err); ok {
		field, want = fault.Field, fault.Want
	}
	if !errors.Is(err, input.ErrMalformed) && !errors.Is(err, app.ErrInvalid) || want == "" {
		t.Fatalf("%q: %v", want, err)
	}
	if strings.ContainsFunc(field+err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Fatalf("control characters in %q, %q", field, err)
	}
	if len(err.Error()) > 4000 {
		t.Fatalf("an error of %d bytes", len(err.Error()))
	}
}

func canonical(t *testing.T, i app.Instance) {
	t.Helper()
	host, port, err := net.SplitHostPort(i.Address)
	if err != nil || host != strings.ToLower(host) || port == "0" {
		t.Fatalf("the address is %q", i.Address)
	}
	if ip, err := netip.ParseAddr(host); err == nil && (ip.Unmap().String() != host || ip.IsUnspecified()) {
		t.Fatalf("the address is %q", i.Address)
	}
	u, err := url.Parse(i.URL())
	if err != nil || u.String() != "http://"+i.Address || u.Host != i.Address {
		t.Fatalf("the URL is %q: %v", i.URL(), err)
	}
	for _, h := range i.Hosts {
		if normal, err := app.NormalizeHost(h); err != nil || normal != h {
			t.Fatalf("the host is %q, and %q, %v when it is normalized", h, normal, err)
		}
	}
	if !slices.IsSorted(i.Hosts) || len(slices.Compact(slices.Clone(i.Hosts))) != len(i.Hosts) {
		t.Fatalf("the hosts are %q", i.Hosts)
	}
	if i.ID == "" || i.Weight < 1 || i.Check.Rise < 1 || i.Check.Fall < 1 || i.Check.Interval <= 0 {
		t.Fatalf("it is %+v", i)
	}
}
