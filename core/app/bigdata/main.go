// Command bigdata fills a database as a large installation would have it, and measures a server on it:
//
//	go run ./core/app/bigdata generate --database-url URL [--users 1000] [--chats 100000] [--messages 20] [--size 5GB] [--seed 1] [--skew 0.9]
//	go run ./core/app/bigdata measure --database-url URL --galley PATH
//
// The rows are those that Open WebUI 0.12.4 writes for the same chats; the same seed makes the same rows. The size is that
// of the SQLite file; a Postgres database with these rows is smaller, because it compresses documents.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bigdata:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	mode := ""
	if len(args) > 0 {
		mode, args = args[0], args[1:]
	}
	f := flag.NewFlagSet("bigdata "+mode, flag.ContinueOnError)
	url := f.String("database-url", "", "sqlite:////path/webui.db or postgresql://user@host/name")
	switch mode {
	case "generate":
		var o options
		f.IntVar(&o.users, "users", 1000, "accounts")
		f.IntVar(&o.chats, "chats", 100000, "chats of all users")
		f.IntVar(&o.messages, "messages", 20, "messages of a chat")
		f.Uint64Var(&o.seed, "seed", 1, "the same seed makes the same rows")
		f.Float64Var(&o.skew, "skew", 0.9, "how unevenly chats are spread over users: 0 is evenly")
		size := f.String("size", "5GB", "of the database, about")
		if err := f.Parse(args); err != nil {
			return err
		}
		n, err := parseSize(*size)
		if err != nil {
			return err
		}
		o.size = n
		if *url == "" || o.users < 1 || o.chats < 0 || o.messages < 1 {
			return errors.New("generate needs --database-url, and at least one user and one message")
		}
		return generate(ctx, *url, o)
	case "measure":
		var m measuring
		f.StringVar(&m.galley, "galley", "", "the program that is measured")
		f.IntVar(&m.spread, "spread", 200, "how many users take part, besides the heaviest")
		f.IntVar(&m.seconds, "seconds", 20, "length of the load")
		f.IntVar(&m.clients, "clients", 8, "clients of the load")
		f.IntVar(&m.port, "port", 21390, "of the server, on the loopback")
		f.StringVar(&m.only, "only", "", "measure what has this in its name")
		f.BoolVar(&m.cold, "cold", false, "drop the system's page cache before each start (root)")
		f.BoolVar(&m.settle, "settle", false, "wait until what follows a start in the background is done")
		f.IntVar(&m.writes, "writes", 20, "writes a second during the measurements, so that no answer is remembered for long")
		if err := f.Parse(args); err != nil {
			return err
		}
		if m.url = *url; m.url == "" || m.galley == "" {
			return errors.New("measure needs --database-url and --galley")
		}
		return measure(ctx, m)
	}
	return errors.New("say generate or measure")
}

// parseSize reads a number of bytes such as 5GB (decimal) or 5GiB.
func parseSize(s string) (int64, error) {
	units := []struct {
		name string
		n    float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}
	for _, u := range units {
		if text, ok := strings.CutSuffix(s, u.name); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil || v < 0 {
				break
			}
			return int64(v * u.n), nil
		}
	}
	return 0, fmt.Errorf("%q is no size such as 5GB", s)
}
