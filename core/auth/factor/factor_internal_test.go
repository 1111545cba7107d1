package factor

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jsondoc"
)

// rfcSecret is the key of RFC 6238's test vectors, "12345678901234567890", in base32.
const rfcSecret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

// TestCode has the last six digits of the RFC's codes of eight.
func TestCode(t *testing.T) {
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got := Code(rfcSecret, time.Unix(at, 0)); got != want {
			t.Errorf("%d: %s, want %s", at, got, want)
		}
	}
	if got := Code("not base32!", time.Unix(59, 0)); got != "" {
		t.Errorf("a code of no secret: %s", got)
	}
}

func TestMatchingStep(t *testing.T) {
	const now = 1234567890
	at := func(step int64) string { return Code(rfcSecret, time.Unix(step*period, 0)) }
	const step = now / period
	for _, c := range []struct {
		name, code string
		last       int64
		want       int64 // 0 for none
	}{
		{"now", at(step), -1, step},
		{"half a minute late", at(step - 1), -1, step - 1},
		{"half a minute early", at(step + 1), -1, step + 1},
		{"a minute late", at(step - 2), -1, 0},
		{"a minute early", at(step + 2), -1, 0},
		{"used", at(step), step, 0},
		{"older than the one used", at(step - 1), step, 0},
		{"newer than the one used", at(step + 1), step, step + 1},
		{"short", at(step)[:5], -1, 0},
		{"long", at(step) + "0", -1, 0},
		{"letters", "abcdef", -1, 0},
		{"other digits", "١٢٣", -1, 0},
		{"nothing", "", -1, 0},
	} {
		if got, ok := matchingStep(rfcSecret, c.code, now, c.last); got != c.want || ok != (c.want != 0) {
			t.Errorf("%s: %d, %v, want %d", c.name, got, ok, c.want)
		}
	}
	if _, ok := matchingStep("not base32!", at(step), now, -1); ok {
		t.Error("a code of no secret is good")
	}
}

func TestSecrets(t *testing.T) {
	a, b := newSecret(), newSecret()
	if raw, err := decodeSecret(a); err != nil || len(raw) != 20 || len(a) != 32 || a == b {
		t.Errorf("%q, %q: %v", a, b, err)
	}
	if got, want := provisioningURI(rfcSecret, "A b+c@x.test"),
		"otpauth://totp/Open%20WebUI:A%20b%2Bc%40x.test?secret="+rfcSecret+"&issuer=Open%20WebUI"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestQRImage(t *testing.T) {
	got, err := qrImage(provisioningURI(rfcSecret, "a@x.test"))
	if err != nil {
		t.Fatal(err)
	}
	svg, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(got, "data:image/svg+xml;base64,"))
	if err != nil || !strings.HasPrefix(string(svg), "<svg ") || !strings.HasSuffix(string(svg), "</svg>") {
		t.Fatalf("%s: %v", svg, err)
	}
	var side int
	if _, err := fmt.Sscanf(string(svg[strings.Index(string(svg), "viewBox"):]), `viewBox="0 0 %d`, &side); err != nil || (side-2*quiet-17)%4 != 0 {
		t.Errorf("%d is no size of a QR code with its margin, %v", side, err)
	}
	if _, err := qrImage(strings.Repeat("x", 5000)); err == nil {
		t.Error("a code of more than a QR code holds")
	}
}

// TestKey reads secrets that the reference encrypted: under a key derived from the one of sessions, and under one given.
func TestKey(t *testing.T) {
	const (
		derived = "gAAAAABrDIbhRfKSFwfxxtoK-n78x6wYdEuxU1IYQaH2PtVDaMI36Q3F2767aw5EgorO7ZBnbsKxM8In7_AqCxi4KCcz8Qwy68T2B_n6Pw7Rm68ItV_qWK5rtU1S06leq8mMj_uWgV_w"
		given   = "gAAAAABrDIbhzGwIcIqbFCRM-DPyWhdZLF5HjBudrld_xBMtbpAB-sKIek2ecufAYWCMN0pG4dvmwKaq_xy4tWA1u1t4BKYSooxW3l3zU_BLrQ_oG5Ux9X7dw31PQeWDPsQN7lTlFEvm"
	)
	for _, c := range []struct{ name, secret, key, stored, want string }{
		{"derived", "a key for tests", "", derived, rfcSecret},
		{"given", "a key for tests", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=", given, rfcSecret},
		{"another key", "another", "", derived, ""},
		{"no key", "", "", derived, ""},
		{"a key that is none", "a key for tests", "short", given, ""},
		{"damaged", "a key for tests", "", derived[:60], ""},
	} {
		f := New(Options{Env: &config.Env{SecretKey: c.secret, MFAKey: c.key}})
		got, err := f.decrypt(c.stored)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		if c.want == "" {
			continue
		}
		again, err := f.encrypt(got)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := f.decrypt(again); back != got || err != nil {
			t.Errorf("%s: own secret reads as %q, %v", c.name, back, err)
		}
	}
}

// TestState reads and writes a row of the reference.
func TestState(t *testing.T) {
	const row = `{"revision": "r1", "secret": "s", "last_step": 41152263, "recovery_hashes": ["h"], "login_challenge": {"token_hash": "t", "type": "verify", ` +
		`"expires_at": 1234568190, "attempts": 2, "auth_method": "password", "auth_time": 1234567890, "session_stamp": "st", "secret": null, ` +
		`"oauth_session_id": null, "provider": null}, "manage_challenge": null, "reset_required": false, "reset_ticket": null, ` +
		`"limits": {"password": {"count": 1, "expires_at": 1234568790}}}`
	s, err := parse(jsondoc.Doc(row))
	if err != nil || *s.Secret != "s" || s.LastStep != 41152263 || s.Login.Attempts != 2 || text(s.Login.Stamp) != "st" || s.Limits["password"].Count != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	out := s.doc()
	if out.Text("revision") == "r1" {
		t.Error("a change has no revision of its own")
	}
	want := jsondoc.Doc(strings.ReplaceAll(strings.ReplaceAll(row, ": ", ":"), ", ", ","))
	if got := out.Set(jsondoc.Text("r1"), "revision"); got.String() != want.String() {
		t.Errorf("%s\nwant %s", got, want)
	}
	for _, none := range []string{"", "null"} {
		s, err := parse(jsondoc.Doc(none))
		if err != nil || s.LastStep != -1 {
			t.Errorf("%q: %+v, %v", none, s, err)
		}
		if d := s.doc(); d.Delete("revision").String() != `{"secret":null,"last_step":-1,"recovery_hashes":[],"login_challenge":null,`+
			`"manage_challenge":null,"reset_required":false,"reset_ticket":null,"limits":{}}` {
			t.Errorf("a new state is %s", d)
		}
	}
	for _, bad := range []string{`{"surprise":1}`, `[]`, `"x"`, `{"secret":5}`} {
		if _, err := parse(jsondoc.Doc(bad)); err == nil {
			t.Errorf("%s is taken for a state", bad)
		}
	}
}

func TestRecoveryCodes(t *testing.T) {
	codes, hashes := recoveryCodes()
	if len(codes) != 10 || len(hashes) != 10 || len(codes[0]) != 32 || codes[0] == codes[1] {
		t.Fatalf("%q, %q", codes, hashes)
	}
	f := New(Options{Env: &config.Env{SecretKey: "k"}})
	s := &state{Recovery: hashes, LastStep: -1}
	use := func(code string, byRecovery bool) bool { return f.consume(s, code, byRecovery, 1234567890) == nil }
	if use("", true) || use(hashes[0], true) || use(codes[3], false) || len(s.Recovery) != 10 {
		t.Error("what is no code was taken")
	}
	if !use(" "+strings.ToUpper(codes[3])+"\n", true) || len(s.Recovery) != 9 {
		t.Error("a code as people copy it was not taken")
	}
	if use(codes[3], true) {
		t.Error("a code is good twice")
	}
	if !use(codes[0], true) || !use(codes[9], true) || len(s.Recovery) != 7 {
		t.Errorf("%d codes left", len(s.Recovery))
	}
}

func TestCount(t *testing.T) {
	s := &state{}
	for i := range triesPerAccount {
		if err := s.count("factor", 100); err != nil {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	if err := s.count("factor", 100+limitSeconds-1); err == nil {
		t.Error("one try too many is let through")
	}
	if err := s.count("password", 100); err != nil {
		t.Errorf("kinds share a limit: %v", err)
	}
	if err := s.count("factor", 100+limitSeconds); err != nil {
		t.Errorf("the limit does not end: %v", err)
	}
}
