// Package utils serves /api/v1/utils: small helpers of the frontend, and a copy of the database for administrators.
package utils

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/jupyter"
	"github.com/galleychat/galley/core/python"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// Deps are what the module works with. Log may be nil.
type Deps struct {
	DB       *store.DB
	Settings *config.Settings
	Env      *config.Env
	Log      *slog.Logger
}

// Module is the tag utils of the API.
type Module struct {
	Deps
	formatter *formatter
}

// New makes the module.
func New(d Deps) *Module {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	return &Module{Deps: d, formatter: &formatter{installer: &python.Installer{Dir: filepath.Join(d.Env.DataDir, "python"), Offline: d.Env.Offline, Log: d.Log}}}
}

// Name implements web.Module.
func (m *Module) Name() string { return "utils" }

// Routes implements web.Module.
func (m *Module) Routes(g *web.Group) {
	g.Add("GET /gravatar", web.JSON(auth.Verified, m.gravatar))
	g.Add("POST /code/format", web.JSON(auth.Admin, m.format))
	g.Add("POST /code/execute", web.JSON(auth.Verified, m.execute))
	g.Add("GET /db/download", web.JSON(auth.Admin, m.download))
}

// copies are the folders of database copies that are being sent, in the data folder.
const copies = ".db-download-"

// Start removes copies of the database that a process left that was killed.
func (m *Module) Start(context.Context) error {
	left, err := filepath.Glob(filepath.Join(m.Env.DataDir, copies+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			m.Log.Warn("a copy of the database was not removed", "folder", dir, "error", err)
		}
	}
	return nil
}

// Stop gives up an installation that is under way.
func (m *Module) Stop(context.Context) error {
	m.formatter.installer.Stop()
	return nil
}

type gravatarIn struct {
	Email string `query:"email"`
}

func (m *Module) gravatar(_ *web.Call, in gravatarIn) (string, error) {
	sum := sha256.Sum256([]byte(strings.ToLower(strings.TrimSpace(in.Email))))
	return "https://www.gravatar.com/avatar/" + hex.EncodeToString(sum[:]) + "?d=mp", nil
}

type codeIn struct {
	Body codeForm
}

type codeForm struct {
	Code string `json:"code"`
}

func (m *Module) format(c *web.Call, in codeIn) (*codeForm, error) {
	code, err := m.formatter.format(c.Context(), in.Body.Code)
	if err != nil {
		return nil, web.Because(http.StatusBadRequest, err.Error(), err)
	}
	return &codeForm{code}, nil
}

func (m *Module) execute(c *web.Call, in codeIn) (*jupyter.Result, error) {
	snap := m.Settings.Snapshot()
	if !config.CodeExecutionEnable.Get(snap) {
		return nil, web.Fail(http.StatusForbidden, "Code execution is disabled")
	}
	if config.CodeExecutionEngine.Get(snap) != "jupyter" {
		return nil, web.Fail(http.StatusBadRequest, web.TextDetail("Code execution engine not supported"))
	}
	s := jupyter.Server{URL: config.CodeExecutionJupyterURL.Get(snap), Timeout: time.Duration(config.CodeExecutionJupyterTimeout.Get(snap)) * time.Second}
	switch config.CodeExecutionJupyterAuth.Get(snap) {
	case "token":
		s.Token = config.CodeExecutionJupyterAuthToken.Get(snap)
	case "password":
		s.Password = config.CodeExecutionJupyterAuthPassword.Get(snap)
	}
	out := jupyter.Run(c.Context(), s, in.Body.Code)
	return &out, nil
}

// download sends a copy of the database: of one moment, whatever is written meanwhile.
func (m *Module) download(c *web.Call, _ web.None) (web.Done, error) {
	if !m.Env.AdminExport {
		return web.Done{}, web.Fail(http.StatusUnauthorized, web.TextProhibited)
	}
	if m.DB.Dialect() != store.SQLite {
		return web.Done{}, web.Fail(http.StatusBadRequest, "This feature is only available with SQLite databases.")
	}
	dir, err := os.MkdirTemp(m.Env.DataDir, copies)
	if err != nil {
		return web.Done{}, err
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "webui.db")
	if err := m.DB.Snapshot(c.Context(), name); err != nil {
		return web.Done{}, err
	}
	f, err := os.Open(name)
	if err != nil {
		return web.Done{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return web.Done{}, err
	}
	h := c.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="webui.db"`)
	h.Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	_, err = io.Copy(c.W, f)
	return web.Done{}, err
}
