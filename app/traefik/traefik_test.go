package traefik

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/traefik/paerser/file"
	"pgregory.net/rapid"

	"rollcall/app"
)

func instance(id string, state app.State, address string, weight int, hosts ...string) app.Instance {
	return app.Instance{ID: id, Service: "shop", Address: address, Weight: weight, State: state, Hosts: hosts}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		options   Options
		instances []app.Instance
		want      string
	}{
		{name: "no vhost", instances: []app.Instance{instance("a", app.Healthy, "10.0.0.1:80", 1)}, want: `{}`},
		{
			name: "two backends", instances: []app.Instance{
				instance("b", app.Healthy, "10.0.0.2:80", 1, "shop.example"), instance("a", app.Healthy, "10.0.0.1:80", 1, "shop.example"),
				instance("c", app.Unhealthy, "10.0.0.3:80", 1, "shop.example"), instance("d", app.Draining, "10.0.0.4:80", 1, "shop.example"),
			},
			want: "{'http':{'routers':{'shop.example':{'rule':'Host(`shop.example`)','service':'shop.example'}}," +
				"'services':{'shop.example':{'loadBalancer':{'passHostHeader':true,'servers':[{'url':'http://10.0.0.1:80'},{'url':'http://10.0.0.2:80'}]}}}}}",
		},
		{
			name: "weights, IPv6, options", options: Options{EntryPoints: []string{"web", "websecure"}, TLS: true, CertResolver: "le"}, instances: []app.Instance{
				instance("a", app.Healthy, "[fd00::2]:80", 2, "shop.example"), instance("b", app.Healthy, "10.0.0.2:80", 1, "shop.example"),
			},
			want: "{'http':{'routers':{'shop.example':{'entryPoints':['web','websecure'],'rule':'Host(`shop.example`)','service':'shop.example','tls':{'certResolver':'le'}}}," +
				"'services':{'shop.example':{'loadBalancer':{'passHostHeader':true,'servers':[{'url':'http://10.0.0.2:80','weight':1},{'url':'http://[fd00::2]:80','weight':2}]}}}}}",
		},
		{
			name: "wildcards, none healthy", options: Options{TLS: true}, instances: []app.Instance{instance("a", app.Starting, "10.0.0.1:80", 1, "*", "*.a-b.example")},
			want: "{'http':{'routers':{'*':{'rule':'PathPrefix(`/`)','priority':1,'service':'*','tls':{}}," +
				"'*.a-b.example':{'rule':'HostRegexp(`^.+\\\\.a-b\\\\.example$`)','priority':3,'service':'*.a-b.example','tls':{}}}," +
				"'services':{'*':{'loadBalancer':{'passHostHeader':true,'servers':[]}},'*.a-b.example':{'loadBalancer':{'passHostHeader':true,'servers':[]}}}}}",
		},
	} {
		got, err := Encode(slices.Values(c.instances), c.options)
		if want := strings.ReplaceAll(c.want, "'", `"`); err != nil || string(got) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", c.name, err, got, want)
		}
		decode(t, got)
	}
}

// accepted are the parts of Traefik's dynamic configuration that Encode uses, with the tags that Traefik's decoder
// reads.
type accepted struct {
	HTTP *struct {
		Routers map[string]*struct {
			EntryPoints []string
			Rule        string
			Priority    int
			Service     string
			TLS         *struct{ CertResolver string } `file:"allowEmpty"`
		}
		Services map[string]*struct {
			LoadBalancer *struct {
				PassHostHeader *bool
				Servers        []struct {
					URL    string
					Weight *int
				}
			}
		}
	}
}

// decode decodes a configuration as Traefik's HTTP provider does, with Traefik's own decoder.
func decode(t interface{ Fatalf(string, ...any) }, text []byte) accepted {
	var got accepted
	if err := file.DecodeContent(string(text), ".yaml", &got); err != nil {
		t.Fatalf("Traefik refuses %s: %v", text, err)
	}
	return got
}

func TestTraefiksDecoderRefusesWhatEncodeAvoids(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"http":{}}`, `{"http":{"routers":{}}}`, `{"http":{"services":{"a":{"loadBalancer":{}}}}}`, `{"http":{"routers":{"a":{"unknown":"x"}}}}`} {
		var got accepted
		if err := file.DecodeContent(text, ".yaml", &got); err == nil {
			t.Errorf("Traefik accepts %s", text)
		}
	}
}

// Every set of instances gives a document that Traefik accepts, which is the same in any order, and in which an
// exact vhost wins over every wildcard.
func TestEncodeIsStableAndAccepted(t *testing.T) {
	t.Parallel()
	hosts := rapid.SliceOfNDistinct(rapid.StringMatching(`(\*\.)?[a-z]{1,3}(-[a-z]\.[a-z]{1,2})?|\*`), 0, 4, rapid.ID[string])
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) app.Instance {
			return instance("", rapid.SampledFrom([]app.State{app.Starting, app.Healthy, app.Unhealthy, app.Draining}).Draw(t, "state"), rapid.StringMatching(`10\.0\.0\.[1-9]:80`).Draw(t, "address"),
				rapid.IntRange(1, 3).Draw(t, "weight"), hosts.Draw(t, "hosts")...)
		}), 0, 6).Draw(t, "instances")
		first, err := Encode(slices.Values(all), Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := decode(t, first)
		if again, _ := Encode(slices.Values(rapid.Permutation(all).Draw(t, "order")), Options{}); !sameServers(first, again) {
			t.Fatalf("in another order it is\n%s, not\n%s", again, first)
		}
		if got.HTTP == nil {
			return
		}
		for name, r := range got.HTTP.Routers {
			if exact := !strings.HasPrefix(name, "*"); exact != (r.Priority == 0) || r.Priority >= len("Host(`a`)") {
				t.Fatalf("%s has the priority %d", name, r.Priority)
			}
			if pattern, ok := strings.CutPrefix(r.Rule, "HostRegexp(`"); ok {
				of := regexp.MustCompile(strings.TrimSuffix(pattern, "`)"))
				if suffix := name[1:]; !of.MatchString("x.y"+suffix) || of.MatchString(suffix[1:]) || of.MatchString("x"+suffix+"z") {
					t.Fatalf("%s has the rule %s", name, r.Rule)
				}
			}
		}
	})
}

// sameServers compares two documents. Instances with one address and several weights, which a registry does not
// have on one vhost, may come in any order.
func sameServers(a, b []byte) bool {
	weightless := regexp.MustCompile(`,"weight":\d+`)
	return json.Valid(a) && string(weightless.ReplaceAll(a, nil)) == string(weightless.ReplaceAll(b, nil))
}
