package oauth

import "time"

// SetNow sets the clock.
func (s *Service) SetNow(now func() time.Time) { s.now = now }

// Blocked says whether one of the patterns is a group's name.
func Blocked(list []string, name string) bool { return patterns(list).match(name) }
