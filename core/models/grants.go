package models

import "github.com/galleychat/galley/core/access"

// Grant lets a principal do something with a model.
type Grant = access.Grant
