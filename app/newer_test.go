package app_test

import (
	"testing"
	"time"

	"rollcall/app"
)

func TestAnUnknownFieldKeepsTheStateUnchanged(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*app.Instance){
		"an unknown kind":  func(i *app.Instance) { i.Check.Kind = "smtp" },
		"a missing kind":   func(i *app.Instance) { i.Check.Kind = "" },
		"an unknown state": func(i *app.Instance) { i.State = "disputed" },
		"an unknown field": func(i *app.Instance) { i.Unknown = `{"zone":"a"}` },
	} {
		for _, state := range []app.State{app.Starting, app.Healthy, app.Unhealthy, app.Failed, app.Draining} {
			i := app.Instance{
				Rev: 1, ID: "a", Service: "web", Address: "10.0.0.7:80", State: state, Check: app.DefaultCheck(app.Heartbeat),
			}
			edit(&i)
			was := i.State
			for range 10 {
				i = i.Observe(app.Result{At: epoch, Code: app.Refused}, epoch)
			}
			i = i.Expire(epoch.Add(time.Hour))
			if i.State != was || i.Streak != 0 || i.Last != (app.Result{}) {
				t.Errorf("%s, %s: after ten failures and its deadline it is %s with streak %d", name, was, i.State, i.Streak)
			}
		}
	}
}

func TestAnInconclusiveResultChangesNothing(t *testing.T) {
	t.Parallel()
	for _, code := range []app.Code{app.Inconclusive, app.NameServerFailed, app.NotUnderstood} {
		i := app.Instance{State: app.Healthy, Check: app.DefaultCheck(app.TCP)}
		for range 10 {
			i = i.Observe(app.Result{At: epoch, Code: code}, epoch)
		}
		if i.State != app.Healthy || i.Streak != 0 {
			t.Errorf("after ten times %q it is %s with streak %d", code, i.State, i.Streak)
		}
	}
}
