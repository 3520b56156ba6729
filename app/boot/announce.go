package boot

import (
	"context"
	"os"
	"time"

	"rollcall/app/diagnose"
	"rollcall/jobs"
)

// describe describes this process for the status page.
func describe(roles Roles, now time.Time) diagnose.Process {
	host, _ := os.Hostname() // the page shows no name then
	p := diagnose.Process{Host: host, PID: os.Getpid(), Version: Version(), Started: now.UTC().Truncate(time.Millisecond)}
	if roles.Web {
		p.Roles = append(p.Roles, "web")
	}
	if roles.Cron {
		p.Roles, p.Worker = append(p.Roles, "cron"), jobs.WorkerID()
	}
	return p
}

// announce lists this process once a minute until the context is over, and then removes it.
func (p *Process) announce(ctx context.Context) error {
	repeat(ctx, time.Minute, func(ctx context.Context) error { return p.store.Announce(ctx, p.self) })
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = p.store.Withdraw(ctx, p.self) // else the list drops it later
	return nil
}
