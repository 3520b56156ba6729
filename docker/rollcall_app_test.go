//go:build linux

package docker_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// appServes is the command of a hook that runs application("serve").
const appServes = "{app}"

// oddBody is the answer of the application to a health check: every character that needs
// encoding in a shell and a form.
const oddBody = `ok: "quotes" 'too' & ünïcode 100% + a=b;c #d \n $HOME ` + "`x`"

// application is the command of the hooks in these tests. It ends after a while, in case a
// test leaves it behind.
func application(mode string) int {
	if mode != "serve" {
		fmt.Println("no such mode:", mode)
		return 2
	}
	exit := make(chan int, 1)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, oddBody) })
	http.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		exit <- code
	})
	http.HandleFunc("/orphans", func(w http.ResponseWriter, _ *http.Request) {
		_ = exec.Command("/bin/sh", "-c", "for i in 1 2 3; do (/bin/sleep 2 &) ; done").Run()
		fmt.Fprint(w, orphans())
	})
	http.HandleFunc("/orphans/left", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, orphans()) })

	signals := make(chan os.Signal, 64)
	signal.Notify(signals, forwarded()...)
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("APP_PORT"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go func() {
		fmt.Println(http.Serve(l, nil))
		exit <- 1
	}()
	fmt.Println("pid", os.Getpid())
	fmt.Println("up")
	for {
		select {
		case s := <-signals:
			fmt.Println("got", s)
			switch s {
			case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
				fmt.Println("state", ownState())
				return 0
			}
		case code := <-exit:
			return code
		case <-time.After(5 * time.Minute):
			return 3
		}
	}
}

// forwarded lists the signals that a hook forwards at any time and that a Go program receives:
// the Go runtime uses URG, PROF and 34 itself.
func forwarded() (list []os.Signal) {
	others := []syscall.Signal{
		syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPROF, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU,
		32, 33, 34, // reserved by C libraries
	}
	for s := syscall.Signal(1); s <= 64; s++ {
		if !slices.Contains(others, s) {
			list = append(list, s)
		}
	}
	return list
}

// ownState returns the state of the application in the registry, by its own id.
func ownState() string {
	return (&registry{url: os.Getenv("ROLLCALL_URL")}).get(os.Getenv("ROLLCALL_ID")).State
}

// orphans counts the processes named sleep that the first process has inherited, in every
// state.
func orphans() int {
	n := 0
	for pid, parent := range processes() {
		name, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
		if parent == 1 && strings.TrimSpace(string(name)) == "sleep" {
			n++
		}
	}
	return n
}
