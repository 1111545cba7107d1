package store

// FileOf gives the path of an SQLite database at a URL in the form that [Open] takes; "" for Postgres.
func FileOf(address string) (string, error) {
	a, err := parseAddress(address)
	if err != nil {
		return "", err
	}
	return a.file, nil
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
