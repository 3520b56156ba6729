package docker_test

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// The sections of a configuration, as each version of Hipache reads them. Version 0.4 also
// uses server.address for its https listener, and refuses to start without a certificate; as
// root it refuses to start without a user.
type (
	hipacheServer struct {
		Workers        int    `json:"workers"`
		MaxSockets     int    `json:"maxSockets"`
		DeadBackendTTL int    `json:"deadBackendTTL"`
		TCPTimeout     int    `json:"tcpTimeout"`
		RetryOnError   int    `json:"retryOnError"`
		AccessLog      string `json:"accessLog"`
	}
	hipacheListener struct {
		Port    int      `json:"port"`
		Address []string `json:"address"`
	}
	hipache02 struct {
		Server struct {
			hipacheListener
			hipacheServer
		} `json:"server"`
		RedisHost string `json:"redisHost"`
		RedisPort int    `json:"redisPort"`
	}
	hipache03 struct {
		Server struct {
			hipacheListener
			hipacheServer
		} `json:"server"`
		Driver string `json:"driver"`
	}
	hipache04 struct {
		HTTP struct {
			Port int      `json:"port"`
			Bind []string `json:"bind"`
		} `json:"http"`
		Server hipacheServer `json:"server"`
		Driver []string      `json:"driver"`
		User   string        `json:"user"`
		Group  string        `json:"group"`
	}
)

func readHipache(t *testing.T, version string, into any) {
	t.Helper()
	text, err := os.ReadFile("hipache-" + version + ".json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Errorf("hipache-%s.json: %v", version, err)
	}
}

func TestEachVersionOfHipacheHasAConfigurationOfItsLayout(t *testing.T) {
	t.Parallel()
	var v2 hipache02
	var v3 hipache03
	var v4 hipache04
	readHipache(t, "0.2", &v2)
	readHipache(t, "0.3", &v3)
	readHipache(t, "0.4", &v4)

	any4 := []string{"0.0.0.0"}
	if v2.Server.Port != 80 || !slices.Equal(v2.Server.Address, any4) || v2.RedisHost != "redis" || v2.RedisPort != 6379 {
		t.Errorf("0.2 listens on %v:%d and reads %s:%d", v2.Server.Address, v2.Server.Port, v2.RedisHost, v2.RedisPort)
	}
	if v3.Server.Port != 80 || !slices.Equal(v3.Server.Address, any4) || v3.Driver != "redis://redis:6379" {
		t.Errorf("0.3 listens on %v:%d and reads %s", v3.Server.Address, v3.Server.Port, v3.Driver)
	}
	if v4.HTTP.Port != 80 || !slices.Equal(v4.HTTP.Bind, any4) || !slices.Equal(v4.Driver, []string{"redis://redis:6379"}) {
		t.Errorf("0.4 listens on %v:%d and reads %v", v4.HTTP.Bind, v4.HTTP.Port, v4.Driver)
	}
	if v4.User == "" {
		t.Error("0.4 does not start as root without a user")
	}
	if v2.Server.hipacheServer != v3.Server.hipacheServer || v3.Server.hipacheServer != v4.Server {
		t.Errorf("they work differently: %+v, %+v, %+v", v2.Server, v3.Server, v4.Server)
	}
	if s := v4.Server; s.Workers < 1 || s.DeadBackendTTL < 1 || s.TCPTimeout < 1 || s.RetryOnError < 1 || s.AccessLog == "" {
		t.Errorf("something is missing: %+v", s)
	}
}

// The image in compose.yaml is version 0.3.
func TestTheComposeFileMountsTheConfigurationOfItsHipache(t *testing.T) {
	t.Parallel()
	compose, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"image: hipache:0.3.1", `"./hipache-0.3.json:/hipache.json:ro"`} {
		if !strings.Contains(string(compose), want) {
			t.Errorf("compose.yaml lacks %s", want)
		}
	}
}
