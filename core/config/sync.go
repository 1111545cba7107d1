package config

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// exchange makes a snapshot with new values and without the rows that are gone; s.mu is held.
func (s *Settings) exchange(values map[string]jsontext.Value, gone []string) {
	old := s.current.Load()
	next := old.with(values, gone, s.initial)
	s.current.Store(next)
	var changed []string
	note := func(key string) {
		if string(old.Raw(key)) != string(next.Raw(key)) {
			changed = append(changed, key)
		}
	}
	for key := range values {
		note(key)
	}
	for _, key := range gone {
		note(key)
	}
	if len(changed) > 0 {
		slices.Sort(changed)
		s.events.add(changed, next)
	}
}

// Reload reads the table, and exchanges the snapshot where rows differ from it.
func (s *Settings) Reload(ctx context.Context) error {
	if !s.persistent {
		return nil
	}
	s.mu.Lock()
	began := s.epoch
	s.mu.Unlock()
	readAt := s.now()
	rows, st, err := readRows(ctx, s.db)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	s.mu.Lock()
	values, gone, whole := s.difference(rows, began)
	if len(values)+len(gone) > 0 {
		s.epoch++
		s.exchange(values, gone)
	}
	s.stamp = stamp{}
	if whole && readAt.Sub(time.Unix(st.latest, 0)) > settle {
		s.stamp = st
	}
	s.mu.Unlock()
	s.events.run()
	return nil
}

// difference is what rows have that the snapshot has not. Keys that this process stored since the epoch began are left
// out, as the row may be older than what the snapshot has; whole is false then. s.mu is held.
func (s *Settings) difference(rows map[string]jsontext.Value, began uint64) (values map[string]jsontext.Value, gone []string, whole bool) {
	old := s.current.Load()
	values, whole = map[string]jsontext.Value{}, true
	consider := func(key string, take func()) {
		if _, known := index[key]; known && !s.stored(key) {
			return
		}
		if s.marks[key].epoch > began {
			whole = false
			return
		}
		take()
	}
	for key, raw := range rows {
		if !old.hasRow(key) || string(old.Raw(key)) != string(raw) {
			consider(key, func() { values[key] = raw })
		}
	}
	missing := func(key string) {
		if _, there := rows[key]; !there && s.stored(key) && old.hasRow(key) {
			consider(key, func() { gone = append(gone, key) })
		}
	}
	for i := range definitions {
		missing(definitions[i].Key)
	}
	for key := range old.extra {
		missing(key)
	}
	return values, gone, whole
}

// Run follows the changes that other processes make to the table until ctx is done; see [Options.Poll]. A poll that
// fails is logged, and the next one tries again.
func (s *Settings) Run(ctx context.Context) {
	if s.poll <= 0 || !s.persistent {
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(s.poll)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := s.Poll(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.log.Error("settings cannot be read; those in memory stay", "error", err)
		}
		failing = err != nil
	}
}

// Poll asks the database whether rows changed, which is one cheap query, and reads them then.
func (s *Settings) Poll(ctx context.Context) error {
	if !s.persistent {
		return nil
	}
	rows, err := s.db.Query(ctx, "SELECT COUNT(*), COALESCE(MAX(updated_at), 0), CAST(COALESCE(SUM(updated_at), 0) AS BIGINT) FROM config")
	if err != nil {
		return fmt.Errorf("poll settings: %w", err)
	}
	var now stamp
	for rows.Next() {
		err = rows.Scan(&now.count, &now.latest, &now.sum)
	}
	if closed := rows.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = rows.Err()
	}
	if err != nil {
		return fmt.Errorf("poll settings: %w", err)
	}
	s.mu.Lock()
	same := now == s.stamp && now != stamp{}
	s.mu.Unlock()
	if same {
		return nil
	}
	return s.Reload(ctx)
}

// hasRow says whether a key's value came from a row.
func (s *Snapshot) hasRow(key string) bool {
	if i, ok := index[key]; ok {
		return s.slots[i].row
	}
	_, ok := s.extra[key]
	return ok
}
