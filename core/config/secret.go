package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// SecretKeyName is how the reference and Galley call the file of the secret key.
const SecretKeyName = ".webui_secret_key"

// LoadSecretKey fills SecretKey, where no variable gave it, from a file. Where WEBUI_SECRET_KEY_FILE names none it is the
// first that is there: of DataDir, which is where Galley keeps it, of the working directory, where "open-webui serve" does,
// or of the folder that holds DataDir, as in the reference's image. Where there is none, the first is made (mode 0600):
// base64 of SecretKeyLength random bytes, as the reference's start does. SecretKeyFile names the one that was read. The
// keys of OAuth that were not given are SecretKey then. Finish comes before. Created says that the key is new.
func (e *Env) LoadSecretKey() (created bool, err error) {
	if e.SecretKey == "" {
		if e.SecretKey, created, err = e.secretFromFile(); err != nil {
			return false, fmt.Errorf("WEBUI_SECRET_KEY: %w", err)
		}
	}
	if e.OAuth.ClientInfoKey == "" {
		e.OAuth.ClientInfoKey = e.SecretKey
	}
	if e.OAuth.SessionTokenKey == "" {
		e.OAuth.SessionTokenKey = e.SecretKey
	}
	return created, nil
}

func (e *Env) secretFromFile() (key string, created bool, err error) {
	places := []string{e.SecretKeyFile}
	if e.SecretKeyFile == e.ownSecretKeyFile() {
		if dir, err := os.Getwd(); err == nil {
			places = append(places, filepath.Join(dir, SecretKeyName))
		}
		places = append(places, filepath.Join(filepath.Dir(e.DataDir), SecretKeyName))
	}
	for _, place := range places {
		key, err = readSecret(place)
		if !errors.Is(err, fs.ErrNotExist) {
			e.SecretKeyFile = place
			return key, false, err
		}
	}
	random := make([]byte, e.SecretKeyLength)
	if _, err := rand.Read(random); err != nil {
		return "", false, err
	}
	key = base64.StdEncoding.EncodeToString(random)
	if err := os.MkdirAll(filepath.Dir(e.SecretKeyFile), 0o755); err != nil {
		return "", false, err
	}
	err = createWhole(e.SecretKeyFile, key)
	if errors.Is(err, fs.ErrExist) {
		// Another process was quicker; its key counts.
		key, err = readSecret(e.SecretKeyFile)
		return key, false, err
	}
	return key, err == nil, err
}

func (e *Env) ownSecretKeyFile() string { return filepath.Join(e.DataDir, SecretKeyName) }

func readSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	// Shell scripts write a newline behind the key, which is not part of it.
	key := strings.TrimRight(string(text), "\r\n")
	if key == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return key, nil
}

// createWhole makes a file that never is there without its text, or fails with fs.ErrExist.
func createWhole(path, text string) error {
	// CreateTemp gives mode 0600.
	f, err := os.CreateTemp(filepath.Dir(path), SecretKeyName+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	err = os.Link(f.Name(), path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// A file system without hard links: the file is there for a moment before its text is.
	f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
