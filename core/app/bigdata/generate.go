package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/core/store"
)

// options say what is made.
type options struct {
	users, chats, messages int
	size                   int64
	seed                   uint64
	skew                   float64
}

// batchBytes is about how much text is held before it is written; there are three batches at most.
const batchBytes = 8 << 20

// generate fills an empty database.
func generate(ctx context.Context, address string, o options) error {
	begin := time.Now()
	// The tables are made by the server's own code, and refused where there are others.
	db, err := store.Open(ctx, address, store.Options{})
	if err != nil {
		return err
	}
	var there int
	if err := db.QueryRow(ctx, `SELECT COUNT(*) FROM "user"`).Scan(&there); err != nil {
		return err
	}
	dialect := db.Dialect()
	if err := db.Close(); err != nil {
		return err
	}
	if there > 0 {
		return fmt.Errorf("the database has %d users already: only an empty one is filled", there)
	}
	s, err := openSink(ctx, dialect, address)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.begin(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan *batch, 1)
	go newPlan(o).produce(ctx, batches)
	done := 0
	last := time.Now()
	for b := range batches {
		if err := s.write(ctx, b); err != nil {
			return err
		}
		done += b.chats
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			fmt.Fprintf(os.Stderr, "%d of %d chats after %v\n", done, o.chats, time.Since(begin).Round(time.Second))
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d chats after %v; indexes\n", done, time.Since(begin).Round(time.Second))
	if err := s.finish(ctx); err != nil {
		return err
	}
	size, err := s.size(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%d users, %d chats of %d messages, %.2f GB in %v\n", o.users, o.chats, o.messages, float64(size)/1e9, time.Since(begin).Round(time.Second))
	fmt.Printf("all passwords are %q; user%d@big.test is the administrator, user%d@big.test has the most chats\n", password, adminUser, heavyUser)
	return nil
}

// produce sends the rows in batches.
func (p *plan) produce(ctx context.Context, out chan<- *batch) {
	defer close(out)
	send := func(b *batch) bool {
		select {
		case out <- b:
			return true
		case <-ctx.Done():
			return false
		}
	}
	if !send(p.small()) {
		return
	}
	w := &writer{plan: p, rng: rand.New(rand.NewPCG(p.o.seed, 21)), left: p.o.size}
	b := &batch{}
	for i := range p.owners {
		w.chat(b, i)
		b.chats++
		if b.bytes > batchBytes || i == len(p.owners)-1 {
			if !send(b) {
				return
			}
			b = &batch{}
		}
	}
}

// What rows and their entries in indexes take beside the texts, as measured, by message.
const (
	textsOnce    = 2 // a question stands in the document and in its row
	textsAnswer  = 4 // an answer also in the output of both
	messageExtra = 1100
)

// writer makes chats one after another.
type writer struct {
	*plan
	rng  *rand.Rand
	left int64 // of the size that is asked for
	text []byte
}

// chat adds a chat with its messages, and now and then a link to it.
func (w *writer) chat(b *batch, i int) {
	owner := int(w.owners[i])
	u := &w.users[owner]
	number := u.begun
	u.begun++
	id := w.uuid()
	s := language(w.rng)
	title := s.title(w.rng)
	begun := int64(lastDay-span) + int64(float64(span)*float64(i)/float64(len(w.owners)))
	n := w.o.messages
	if owner == heavyUser && number == u.chats/2 {
		n = max(2*n, w.o.chats/50)
	}
	recent := i > len(w.owners)/3 // older versions stored no output
	// Texts are as long as the rest of the size allows, unevenly.
	share := float64(w.left) / float64(len(w.owners)-i)
	times := textsOnce
	if recent {
		times = textsAnswer
	}
	length := int((share/float64(w.o.messages) - messageExtra) * 2 / float64(times+1) * math.Exp(w.rng.NormFloat64()*0.7-0.245))
	length = max(length, 40)

	doc := make([]byte, 0, 4<<10+n*(length+900))
	doc = append(append(append(doc, `{"id":"`...), id...), `","title":"`...)
	doc = append(append(doc, title...), `","models":["m1"],"history":{"currentId":"`...)
	ids := make([]string, n)
	for k := range ids {
		ids[k] = w.uuid()
	}
	doc = append(append(doc, ids[n-1]...), `","messages":{`...)
	at := begun
	before := b.bytes
	for k, mid := range ids {
		if k > 0 {
			doc = append(doc, ',')
		}
		at += int64(2 + w.rng.IntN(90))
		parent, child := "null", "[]"
		var parentID any
		if k > 0 {
			parent, parentID = `"`+ids[k-1]+`"`, ids[k-1]
		}
		if k < n-1 {
			child = `["` + ids[k+1] + `"]`
		}
		head := `{"id":"` + mid + `","parentId":` + parent + `,"childrenIds":` + child
		doc = append(append(append(doc, '"'), mid...), `":`...)
		doc = append(doc, head...)
		if k%2 == 0 {
			w.text = w.question(w.text[:0], s, length, k == 0)
			doc = append(append(append(doc, `,"role":"user","content":"`...), w.text...), `","timestamp":`...)
			doc = strconv.AppendInt(doc, at, 10)
			doc = append(doc, `,"models":["m1"],"user_id":"`+u.id+`","user":{"id":"`+u.id+`","name":"`+u.name+`"}}`...)
			b.add(&tableMessage, id+"-"+mid, id, u.id, "user", parentID, `"`+string(w.text)+`"`, "null", nil, "null", "null", "null", "null", true, "null", "null", "null", nil, at, at)
			continue
		}
		w.text = s.appendText(w.text[:0], w.rng, length/2+w.rng.IntN(length+1))
		doc = append(append(append(doc, `,"role":"assistant","content":"`...), w.text...), `","done":true,"model":"m1","timestamp":`...)
		doc = strconv.AppendInt(doc, at, 10)
		in, out := w.rng.IntN(3000), len(w.text)/4
		usage := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"input_tokens":%d,"output_tokens":%d}`, in, out, in+out, in, out)
		meta, output := "null", "null"
		doc = append(append(doc, `,"usage":`...), usage...)
		if recent {
			meta = `{"task_id":"` + w.uuid() + `"}`
			output = `[{"type":"message","id":"msg_` + strings.ReplaceAll(w.uuid(), "-", "")[:24] +
				`","status":"completed","role":"assistant","content":[{"type":"output_text","text":"` + string(w.text) + `"}]}]`
			doc = append(append(append(append(doc, `,"meta":`...), meta...), `,"output":`...), output...)
		}
		doc = append(doc, '}')
		b.add(&tableMessage, id+"-"+mid, id, u.id, "assistant", parentID, `"`+string(w.text)+`"`, output, "m1", "null", "null", "null", meta, true, "null", "null", usage, nil, at, at)
	}
	doc = append(doc, `}}}`...)

	archived, pinned := w.rng.IntN(20) == 0, false
	var folder, link any
	switch n := w.rng.IntN(100); {
	case owner == heavyUser && number%5 == 0:
		folder, archived = u.folders[len(u.folders)-1], false
	case n < 25 && len(u.folders) > 0 && !archived:
		folder = u.folders[w.rng.IntN(len(u.folders))]
	case n < 27 && !archived:
		pinned = true
	}
	updated, read := at, at
	if w.rng.IntN(15) == 0 {
		read = begun // an answer that nobody has seen
	}
	text := string(doc)
	if w.rng.IntN(50) == 0 {
		share := w.uuid()
		link = share
		b.add(&tableShared, share, id, u.id, title, text[:len(text)-1]+`,"share_mode":null}`, updated, updated)
		kind, who := "user", "*"
		if w.rng.IntN(2) == 0 {
			who = w.users[w.rng.IntN(len(w.users))].id
		}
		b.add(&tableGrant, w.uuid(), "shared_chat", id, kind, who, "read", updated)
	}
	b.add(&tableChat, id, u.id, title, text, begun, updated, link, archived, pinned, w.meta(u, owner), "{}", folder, "null", nil, ids[n-1], read, nil)
	w.left -= int64(b.bytes - before + n*indexExtra)
}

// indexExtra is what a message takes in indexes and in pages that are not full, as measured.
const indexExtra = 700

// question is a user's text; the first of a chat sometimes has a number that stands nowhere else.
func (w *writer) question(b []byte, s *script, length int, first bool) []byte {
	b = s.appendText(b, w.rng, 20+w.rng.IntN(length/3+1))
	if first && w.rng.IntN(4) == 0 {
		b = append(b, " (ticket KX-"...)
		b = strconv.AppendUint(b, w.rng.Uint64()>>24, 36)
		b = append(b, ')')
	}
	return b
}

// meta gives three chats in ten some of their user's tags; who has very many tags uses each of them.
func (w *writer) meta(u *user, owner int) string {
	if owner == taggedUser {
		from := u.tagged
		u.tagged = min(from+2, len(u.tags))
		if from < u.tagged {
			return tagsOf(u.tags[from:u.tagged])
		}
	}
	if w.rng.IntN(10) >= 3 {
		return "{}"
	}
	from := w.rng.IntN(len(u.tags))
	return tagsOf(u.tags[from:min(from+1+w.rng.IntN(3), len(u.tags))])
}

func tagsOf(names []string) string {
	return `{"tags":["` + strings.ReplaceAll(strings.Join(names, `","`), " ", "_") + `"]}`
}
