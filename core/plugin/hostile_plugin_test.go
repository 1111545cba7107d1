package plugin

import (
	"os/signal"
	"syscall"
	"time"
)

func init() {
	testPlugins["silent"] = func() { time.Sleep(time.Hour) }
	testPlugins["stubborn"] = func() {
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	}
}
