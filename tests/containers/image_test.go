package containers

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestImageNeedsNoRights(t *testing.T) {
	t.Parallel()
	e := docker(t)
	var images []struct {
		Size   int64
		Config struct {
			User       string
			Entrypoint []string
		}
	}
	if err := json.Unmarshal([]byte(e.run(t, "image", "inspect", rollcallImage)), &images); err != nil {
		t.Fatal(err)
	}
	image := images[0]
	t.Logf("%.1f MB", float64(image.Size)/1e6)
	user, _, _ := strings.Cut(image.Config.User, ":")
	if id, err := strconv.Atoi(user); err != nil || id == 0 {
		t.Errorf("it runs as %q, want a number other than 0, which an orchestrator can check", image.Config.User)
	}

	options := append([]string{"run", "--detach", "--network", "none", "--memory", "128m", "--pids-limit", "64"}, hardened...)
	options = append(options, "--env", "ROLLCALL_ADMIN_TOKEN="+token)
	serve := e.run(t, append(options, rollcallImage, "serve")...) // on the embedded Redis
	t.Cleanup(func() { _, _ = e.try("rm", "--force", serve) })
	err := within(20*time.Second, "its own health check passes", func() error {
		status, err := e.try("inspect", "--format", "{{.State.Health.Status}} {{.State.Status}}", serve)
		if err == nil && status != "healthy running" {
			err = errors.New(status)
		}
		return err
	})
	if err != nil {
		t.Fatal(err, e.run(t, "logs", serve))
	}
	if left := e.run(t, "diff", serve); left != "" {
		t.Errorf("it has written:\n%s", left)
	}
	began := time.Now()
	e.run(t, "stop", serve)
	code := e.run(t, "inspect", "--format", "{{.State.ExitCode}}", serve)
	t.Logf("stopped in %s", time.Since(began).Round(10*time.Millisecond))
	if code != "0" || time.Since(began) > 8*time.Second {
		t.Errorf("docker stop took %s and it exited with %s, want 0 at once", time.Since(began), code)
	}
}

func TestImageWithoutATokenSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	e := docker(t)
	_, err := e.try("run", "--rm", "--network", "none", rollcallImage, "serve")
	if err == nil || !strings.Contains(fmt.Sprint(err), "ROLLCALL_ADMIN_TOKEN") {
		t.Errorf("got %v, want the name of the variable", err)
	}
}

func TestWebWithoutRedisSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	e := docker(t)
	_, err := e.try("run", "--rm", "--network", "none", rollcallImage)
	if err == nil || !strings.Contains(fmt.Sprint(err), "REDIS_URL") {
		t.Errorf("got %v, want the name of the variable", err)
	}
}
