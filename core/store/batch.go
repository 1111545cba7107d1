package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// batcher gathers write transactions of SQLite, which has one writer, into one commit: what waits while a commit is
// written to the log goes into the next one together. Each transaction is a savepoint of its own, so that one that fails
// takes back only what it did. Nobody is told of success before the commit.
type batcher struct {
	db *DB

	mu      sync.Mutex
	queue   []*job
	running bool
}

// maxBatch bounds how many transactions share a commit, so that the first does not wait long.
const maxBatch = 64

// job is a transaction that waits.
type job struct {
	ctx   context.Context
	run   func(*Tx) error
	tx    *Tx
	err   error
	panic any
	done  chan struct{}
}

// errAborted says that a whole batch was taken back by the database and each transaction is to be tried alone.
var errAborted = errors.New("store: batch aborted")

// do runs f in a transaction and returns once it is committed or has failed.
func (b *batcher) do(ctx context.Context, f func(*Tx) error) error {
	// Within the batch the context is not cancelled: SQLite answers an interrupted write by taking back the whole
	// transaction, others' parts with it. Write transactions are short.
	j := &job{ctx: context.WithoutCancel(ctx), run: f, done: make(chan struct{})}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	b.queue = append(b.queue, j)
	start := !b.running
	b.running = true
	b.mu.Unlock()
	if start {
		go b.work()
	}
	<-j.done
	if j.panic != nil {
		panic(j.panic)
	}
	if errors.Is(j.err, errAborted) {
		return b.db.tx(ctx, f)
	}
	if j.err == nil {
		for _, after := range j.tx.after {
			after()
		}
	}
	return j.err
}

// work commits batches until nothing waits.
func (b *batcher) work() {
	for {
		b.mu.Lock()
		n := min(len(b.queue), maxBatch)
		if n == 0 {
			b.running = false
			b.mu.Unlock()
			return
		}
		batch := b.queue[:n:n]
		b.queue = b.queue[n:]
		b.mu.Unlock()
		b.commit(batch)
		for _, j := range batch {
			close(j.done)
		}
	}
}

// commit runs a batch. An error that takes the whole transaction back is given to all of a batch of several as
// errAborted.
func (b *batcher) commit(batch []*job) {
	err := b.try(batch)
	if err == nil {
		return
	}
	for _, j := range batch {
		if j.panic != nil {
			continue
		}
		j.err = err
		if len(batch) > 1 {
			j.err = errAborted
		}
	}
}

func (b *batcher) try(batch []*job) (err error) {
	ctx := batch[0].ctx
	raw, err := b.db.write.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", wrap(err))
	}
	defer func() {
		if err != nil {
			_ = raw.Rollback()
		}
	}()
	if len(batch) == 1 {
		j := batch[0]
		j.tx = &Tx{tx: raw, db: b.db}
		if j.execute(); j.err != nil || j.panic != nil {
			_ = raw.Rollback()
			return nil
		}
	} else {
		outer := &Tx{tx: raw, db: b.db}
		for _, j := range batch {
			if _, err = outer.Exec(ctx, "SAVEPOINT part"); err != nil {
				return err
			}
			j.tx = &Tx{tx: raw, db: b.db}
			end := "RELEASE part"
			if j.execute(); j.err != nil || j.panic != nil {
				if _, err = outer.Exec(ctx, "ROLLBACK TO part"); err != nil {
					return err
				}
			}
			if _, err = outer.Exec(ctx, end); err != nil {
				return err
			}
		}
	}
	if err = raw.Commit(); err != nil {
		return fmt.Errorf("commit: %w", wrap(err))
	}
	return nil
}

// execute runs the job's function; a panic is kept for the goroutine that waits.
func (j *job) execute() {
	defer func() {
		if p := recover(); p != nil {
			j.panic = p
		}
	}()
	j.err = j.run(j.tx)
}
