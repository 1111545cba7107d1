package store

import (
	"errors"
	"fmt"
	"strings"
)

// FileOf gives the path of an SQLite database at a URL in the form that [Open] takes; "" for Postgres.
func FileOf(address string) (string, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return "", fmt.Errorf("DATABASE_URL: %q is not a URL like sqlite:///path or postgresql://user@host/name", redact(address))
	}
	scheme, _, _ = strings.Cut(scheme, "+")
	switch scheme {
	case "sqlite":
		path, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "?")
		if path == "" || path == ":memory:" {
			return "", errors.New("DATABASE_URL: SQLite needs a file, as in sqlite:////path/webui.db")
		}
		return path, nil
	case "postgresql", "postgres":
		return "", nil
	}
	return "", fmt.Errorf("DATABASE_URL: %q is neither sqlite nor postgresql", scheme)
}

// OwnVersion is how many steps Galley's own tables have in this program; a database of a newer one has had more.
func OwnVersion() int {
	steps, err := ownSteps(ownSchema, SQLite)
	if err != nil {
		panic(err) // they are part of the program
	}
	return len(steps)
}

// Redact hides the password of a database's URL.
func Redact(address string) string { return redact(address) }
