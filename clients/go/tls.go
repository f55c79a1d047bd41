package perdure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSFiles names the PEM files for a TLS connection. All fields are optional.
type TLSFiles struct {
	// CA contains the certificate authorities to trust. By default the client trusts those of the system.
	CA string
	// Cert and Key contain the client certificate and its private key, for servers that require one. Set both or none.
	Cert string
	Key  string
	// ServerName is the name in the server's certificate. Set it if the name differs from the target's host.
	ServerName string
}

// LoadTLS reads the files and returns a config for [Options].TLS. The files are read once. Create a new client after you
// renew them.
func LoadTLS(files TLSFiles) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: files.ServerName}
	if files.CA != "" {
		text, err := os.ReadFile(files.CA)
		if err != nil {
			return nil, fmt.Errorf("perdure: cannot read the CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("perdure: CA file %q does not contain a certificate", files.CA)
		}
	}
	if (files.Cert == "") != (files.Key == "") {
		return nil, errors.New("perdure: a client certificate requires both Cert and Key")
	}
	if files.Cert != "" {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			return nil, fmt.Errorf("perdure: cannot load the client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
