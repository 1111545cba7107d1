package models

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	_ "image/gif"  // the formats that
	_ "image/jpeg" // backgrounds
	_ "image/png"  // may have
	"net/http"
	"slices"

	_ "golang.org/x/image/webp"

	"github.com/galleychat/galley/core/access"
	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// either is err, or other where there is none.
func either(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// Limits of the files that models use, in bytes and pixels.
const (
	maxBackground       = 5 << 20
	maxBackgroundPixels = 25_000_000
	maxAvatar           = 25 << 20
)

// checkReferences asks whether the caller may use the files that a model names; those of its previous state are not
// looked at again.
func (m *Module) checkReferences(c *web.Call, f *form, previous *models.Meta) error {
	if err := m.checkKnowledge(c, f.Meta.Knowledge.V); err != nil {
		return err
	}
	var old models.BackgroundURL
	if previous != nil {
		old = previous.Background.V
	}
	if f.Meta.Background.Has() && f.Meta.Background.V != old {
		if err := m.checkBackground(c, f.Meta.Background.V.FileID()); err != nil {
			return err
		}
	}
	if !f.Meta.Avatar.Has() {
		return nil
	}
	var known []string
	if previous != nil && previous.Avatar.Has() {
		known = append(animations(&previous.Avatar.V), previous.Avatar.V.FileID)
	}
	return m.checkAvatar(c, &f.Meta.Avatar.V, known)
}

// checkKnowledge refuses files that the caller may not read.
func (m *Module) checkKnowledge(c *web.Call, knowledge models.Knowledge) error {
	if c.IsAdmin() {
		return nil
	}
	for _, item := range jsondoc.Doc(knowledge).List() {
		id := item.Text("id")
		if item.Text("type") != "file" || id == "" {
			continue
		}
		if ok, err := m.readable(c.Context(), c.Principal, id); err != nil || !ok {
			return either(err, errForbidden)
		}
	}
	return nil
}

func (m *Module) readable(ctx context.Context, p *auth.Principal, id string) (bool, error) {
	if m.Files == nil {
		return false, nil
	}
	return m.Files.Readable(ctx, p, id)
}

func (m *Module) checkBackground(c *web.Call, id string) error {
	ctx := c.Context()
	if ok, err := m.readable(ctx, c.Principal, id); err != nil || !ok {
		return either(err, web.Fail(http.StatusForbidden, "Background image is not accessible."))
	}
	data, err := m.Files.Content(ctx, id, maxBackground+1)
	if err != nil {
		return web.Because(http.StatusBadRequest, "Invalid background image.", err)
	}
	kind, err := imageType(data)
	if err != nil {
		return web.Fail(http.StatusBadRequest, err.Error())
	}
	return m.Files.SetType(ctx, id, kind)
}

// imageType checks a background and gives its media type. The texts of errors are for clients.
func imageType(data []byte) (string, error) {
	if len(data) > maxBackground {
		return "", errors.New("Background image must be at most 5 MiB.") //nolint:staticcheck // as clients see it
	}
	conf, kind, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return "", errors.New("Invalid background image.") //nolint:staticcheck
	}
	if conf.Width*conf.Height > maxBackgroundPixels {
		return "", errors.New("Background image must be at most 25 megapixels.") //nolint:staticcheck
	}
	if _, _, err := image.Decode(bytes.NewReader(data)); err != nil {
		return "", errors.New("Invalid background image.") //nolint:staticcheck
	}
	return "image/" + kind, nil
}

func animations(a *models.VoiceAvatar) []string {
	var ids []string
	for _, s := range a.States {
		ids = append(ids, s.FileID)
	}
	for _, g := range a.Gestures {
		ids = append(ids, g.FileID)
	}
	return ids
}

func (m *Module) checkAvatar(c *web.Call, a *models.VoiceAvatar, known []string) error {
	moves := animations(a)
	if slices.Contains(moves, a.FileID) {
		return web.Fail(http.StatusBadRequest, "An animation must be a VRMA file, not the avatar.")
	}
	slices.Sort(moves)
	for _, id := range append(slices.Compact(moves), a.FileID) {
		if slices.Contains(known, id) {
			continue
		}
		if ok, err := m.readable(c.Context(), c.Principal, id); err != nil || !ok {
			return either(err, web.Fail(http.StatusForbidden, "Avatar or animation file is not accessible. Upload it again."))
		}
		data, err := m.Files.Content(c.Context(), id, maxAvatar+1)
		if err != nil {
			return web.Because(http.StatusBadRequest, "Invalid VRM file.", err)
		}
		if !isGLB(data) {
			return web.Fail(http.StatusBadRequest, "Invalid VRM file.")
		}
	}
	return nil
}

// isGLB says whether data is a binary glTF 2 container of an allowed size whose first chunk is JSON: what VRM and VRMA
// files are.
func isGLB(data []byte) bool {
	if len(data) < 20 || len(data) > maxAvatar {
		return false
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(data[4*i:]) }
	size := int(word(3))
	return word(0) == 0x46546C67 && word(1) == 2 && int(word(2)) == len(data) && word(4) == 0x4E4F534A &&
		size <= len(data)-20 && jsondoc.Valid(bytes.TrimRight(data[20:20+size], " \x00")) == nil
}

// checkDependencies asks whether all that a version refers to is there still, and open to the caller.
func (m *Module) checkDependencies(c *web.Call, f *form) error {
	if f.BaseModelID.V != "" {
		list, err := m.Catalog.List(c.Context(), models.CallerOf(c.Principal))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(b *models.Model) bool { return b.ID == f.BaseModelID.V }) {
			return web.Fail(http.StatusBadRequest, "The base model is unavailable.")
		}
	}
	for _, item := range jsondoc.Doc(f.Meta.Knowledge.V).List() {
		id := item.Text("id")
		if id == "" || item.Get("legacy").Truthy() {
			continue
		}
		var err error
		switch item.Text("type") {
		case "file":
			if ok, ferr := m.readable(c.Context(), c.Principal, id); ferr != nil || !ok {
				err = either(ferr, web.Fail(http.StatusBadRequest, "A referenced knowledge file is missing or inaccessible."))
			}
		case "note":
			err = m.checkResource(c, "note", id)
		default:
			err = m.checkResource(c, "knowledge", id)
		}
		if err != nil {
			return err
		}
	}
	extra := jsondoc.Doc(f.Meta.Extra)
	for _, id := range extra.Get("skillIds").Texts() {
		if err := m.checkResource(c, "skill", id); err != nil {
			return err
		}
	}
	return m.checkFunctions(c, extra)
}

func (m *Module) checkFunctions(c *web.Call, meta jsondoc.Doc) error {
	for _, id := range meta.Get("toolIds").Texts() {
		if m.checkResource(c, "tool", id) != nil {
			return web.Fail(http.StatusBadRequest, "A referenced tool is missing or inaccessible.")
		}
	}
	for _, key := range []string{"filterIds", "defaultFilterIds", "actionIds"} {
		for _, id := range meta.Get(key).Texts() {
			r, err := m.rows.Resource(c.Context(), "function", id)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err != nil || !r.Active {
				return web.Fail(http.StatusBadRequest, "A referenced function is unavailable: "+id)
			}
		}
	}
	return nil
}

func (m *Module) checkResource(c *web.Call, kind, id string) error {
	r, err := m.rows.Resource(c.Context(), kind, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && !r.Active {
		return web.Fail(http.StatusBadRequest, "Referenced "+kind+" is unavailable: "+id)
	}
	if err != nil || m.free(c) || r.Owner == c.UserID() {
		return err
	}
	ok, err := m.Access.Can(c.Context(), c.UserID(), kind, id, access.Read)
	if err != nil || !ok {
		return either(err, web.Fail(http.StatusForbidden, "Referenced "+kind+" is not accessible: "+id))
	}
	return nil
}
