package web

import "reflect"

type formData struct{}

func (f *field) formField(dst reflect.Value, form *formData) Problems { return nil }
