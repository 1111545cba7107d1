package pytools

import (
	"context"

	"github.com/galleychat/galley/core/fernet"
	"github.com/galleychat/galley/core/jsondoc"
	rows "github.com/galleychat/galley/core/store/tools"
	"github.com/galleychat/galley/core/store/users"
)

// seal is values as they are stored: encrypted where the operator wants that.
func (s *Service) seal(values jsondoc.Doc) (jsondoc.Doc, error) {
	if !s.Env.ValveEncryption {
		return values, nil
	}
	key, err := fernet.NewKey(s.Env.SecretKey)
	if err != nil {
		return nil, err
	}
	token, err := key.Encrypt(values)
	return jsondoc.Text(token), err
}

// unseal is stored values as an object, empty where they cannot be read.
func (s *Service) unseal(ctx context.Context, stored jsondoc.Doc) jsondoc.Doc {
	empty := jsondoc.Doc("{}")
	token, encrypted := stored.AsText()
	switch {
	case encrypted && token != "":
		key, err := fernet.NewKey(s.Env.SecretKey)
		if err == nil {
			var text []byte
			if text, err = key.Decrypt(token); err == nil {
				if d, bad := jsondoc.Check(text); bad == nil && d.Kind() == '{' {
					return d
				}
				return empty
			}
		}
		s.Log.WarnContext(ctx, "stored valves cannot be decrypted", "error", err)
		return empty
	case stored.Kind() == '{':
		return stored
	}
	return empty
}

// Valves are the values that are set of a tool.
func (s *Service) Valves(ctx context.Context, t *rows.Tool) jsondoc.Doc {
	return s.unseal(ctx, t.Valves)
}

// SetValves checks values and stores those that are set, which it gives.
func (s *Service) SetValves(ctx context.Context, t *rows.Tool, values jsondoc.Doc) (jsondoc.Doc, error) {
	set, err := s.Host.Valves(ctx, source(t), false, values)
	if err != nil {
		return nil, err
	}
	sealed, err := s.seal(set)
	if err != nil {
		return nil, err
	}
	return set, s.Rows.SetValves(ctx, t.ID, sealed)
}

// UserValves are the values that a user has set for a tool, in the settings of the account.
func (s *Service) UserValves(ctx context.Context, u *users.User, toolID string) jsondoc.Doc {
	return s.unseal(ctx, u.Settings.Get("tools", "valves", toolID))
}

// SetUserValves is SetValves for a user's own.
func (s *Service) SetUserValves(ctx context.Context, userID string, t *rows.Tool, values jsondoc.Doc) (jsondoc.Doc, error) {
	set, err := s.Host.Valves(ctx, source(t), true, values)
	if err != nil {
		return nil, err
	}
	sealed, err := s.seal(set)
	if err != nil {
		return nil, err
	}
	_, err = s.Users.Edit(ctx, userID, func(u *users.User) []users.Field {
		return []users.Field{users.SetSettings(u.Settings.Or(jsondoc.Doc(`{"ui":{}}`)).Set(sealed, "tools", "valves", t.ID))}
	})
	return set, err
}
