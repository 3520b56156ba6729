// Command witness is a container's program that reports its treatment: it prints the signals that it
// gets, leaves orphans behind, and ends with its own exit code.
//
//	witness        prints signals; TERM, INT and QUIT end it with 7
//	witness CODE   ends at once
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	if len(os.Args) > 1 {
		code, _ := strconv.Atoi(os.Args[1])
		os.Exit(code)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	// Their parent ends before they do, and the first process of the container adopts them.
	orphans := exec.Command("sh", "-c", "(sleep 0.2; echo orphan ends) & (sleep 0.2) & (sleep 0.2) &")
	orphans.Stdout = os.Stdout
	if err := orphans.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_ = orphans.Wait()
	fmt.Println("up")
	for s := range signals {
		fmt.Println("got", s)
		switch s {
		case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
			os.Exit(7)
		}
	}
}
