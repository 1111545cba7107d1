package main

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// password is that of all users; passwordHash is its bcrypt hash, made once.
const (
	password     = "big-data-1"
	passwordHash = "$2b$12$SRZUNewCOyQos8bka2Uqy.ntj72VCUj6c2WiKPxa/qd5rnLYfAFdS"
)

// Some users are told apart from the others, each by what they have much of.
const (
	adminUser  = 0 // the administrator
	heavyUser  = 1 // a twentieth of all chats, a folder with a hundredth of all, and one very long chat
	taggedUser = 2 // three tags for each user there is
)

// user is a planned account and what belongs to it.
type user struct {
	id, name, email string
	chats           int
	folders         []string
	tags            []string // names
	tagged          int      // how many of the tags have been given to chats
	begun           int      // how many of the chats have been made
}

// plan is the shape of a database: all that is small.
type plan struct {
	o      options
	rng    *rand.Rand
	users  []user
	owners []uint32 // of chats, from the oldest to the newest
	groups []string
}

// lastDay is when the newest chat was begun (1 November 2026), and span how long before the oldest was.
const (
	lastDay = 1793491200
	span    = 2 * 365 * 86400
)

func newPlan(o options) *plan {
	p := &plan{o: o, rng: rand.New(rand.NewPCG(o.seed, 20)), users: make([]user, o.users)}
	for i, n := range p.shares() {
		u := &p.users[i]
		first, last := languages[0].words[100+i%1000], languages[0].words[2000+i]
		u.id, u.chats = p.uuid(), n
		u.name = strings.ToUpper(first[:1]) + first[1:] + " " + strings.ToUpper(last[:1]) + last[1:]
		u.email = fmt.Sprintf("user%d@big.test", i)
		for range min(n/25, 20) {
			u.folders = append(u.folders, p.uuid())
		}
		tags := 3 + p.rng.IntN(20)
		switch i {
		case heavyUser:
			u.folders = append(u.folders, p.uuid())
		case taggedUser:
			tags = 3 * o.users
		}
		for k := range tags {
			name := languages[0].words[60+p.rng.IntN(500)]
			if k >= 10 {
				name += fmt.Sprintf(" %d", k)
			}
			if !slices.Contains(u.tags, name) {
				u.tags = append(u.tags, name)
			}
		}
		for range n {
			p.owners = append(p.owners, uint32(i))
		}
	}
	p.rng.Shuffle(len(p.owners), func(i, k int) { p.owners[i], p.owners[k] = p.owners[k], p.owners[i] })
	for range o.users / 2 {
		p.groups = append(p.groups, p.uuid())
	}
	return p
}

// shares says how many chats each user has: by Zipf's law with the exponent --skew, but a twentieth for the heaviest.
func (p *plan) shares() []int {
	n := p.o.users
	order := p.rng.Perm(n) // the rank of each user
	for rank, special := range []int{heavyUser, taggedUser} {
		if special < n && rank < n {
			k := slices.Index(order, rank)
			order[k], order[special] = order[special], rank
		}
	}
	weights, total := make([]float64, n), 0.0
	for i, rank := range order {
		weights[i] = 1 / math.Pow(float64(rank+1), p.o.skew)
		total += weights[i]
	}
	out, rest := make([]int, n), p.o.chats
	for i := range out {
		out[i] = int(float64(p.o.chats) * weights[i] / total)
		if n > 20 && p.o.skew > 0 {
			out[i] = min(out[i], p.o.chats/20)
		}
		rest -= out[i]
	}
	// what rounding and the bound left goes to those with the least
	few := p.rng.Perm(n)
	slices.SortStableFunc(few, func(a, b int) int { return cmp.Compare(out[a], out[b]) })
	for i := 0; rest > 0; i++ {
		out[few[i%max(n*3/4, 1)]]++
		rest--
	}
	return out
}

// uuid makes an id as random UUIDs look.
func (p *plan) uuid() string {
	var id [16]byte
	a, b := p.rng.Uint64(), p.rng.Uint64()
	for i := range 8 {
		id[i], id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	var out [36]byte
	hex.Encode(out[0:8], id[0:4])
	hex.Encode(out[9:13], id[4:6])
	hex.Encode(out[14:18], id[6:8])
	hex.Encode(out[19:23], id[8:10])
	hex.Encode(out[24:36], id[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// small makes the rows of all tables but those of chats.
func (p *plan) small() *batch {
	b := &batch{}
	for i := range p.users {
		u := &p.users[i]
		role := "user"
		if i == adminUser {
			role = "admin"
		}
		made := int64(lastDay - span + i*60)
		b.add(&tableUser, u.id, u.email, u.name, role, "/user.png", int64(lastDay), made, made, "null", "null", "null", "null")
		b.add(&tableAuth, u.id, u.email, passwordHash, true, p.uuid())
		for k, id := range u.folders {
			name := fmt.Sprintf("%s %d", languages[0].words[60+p.rng.IntN(900)], k+1)
			var parent any
			if k > 2 && k%4 == 0 {
				parent = u.folders[k-1]
			}
			b.add(&tableFolder, id, parent, u.id, name, "null", "null", "null", false, made, made)
			if k == 1 && len(p.groups) > 0 {
				b.add(&tableGrant, p.uuid(), "folder", id, "group", p.groups[p.rng.IntN(len(p.groups))], "read", made)
			}
		}
		for _, name := range u.tags {
			b.add(&tableTag, strings.ReplaceAll(name, " ", "_"), name, u.id, "null")
		}
	}
	admin := p.users[adminUser].id
	for i, id := range p.groups {
		var parent any
		if i%5 == 4 {
			parent = p.groups[i-1]
		}
		b.add(&tableGroup, id, admin, parent, fmt.Sprintf("Group %s %d", languages[0].words[60+i], i), "", `{"config":{"share":"members"}}`, "null", int64(lastDay-span), int64(lastDay-span))
		for _, k := range p.rng.Perm(len(p.users))[:min(len(p.users), 2+p.rng.IntN(40))] {
			b.add(&tableMember, p.uuid(), id, p.users[k].id, int64(lastDay-span), int64(lastDay-span))
		}
	}
	return b
}
