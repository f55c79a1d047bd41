package perdure

import (
	"context"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// backupTimeout is long because the duration of a backup depends on the size of the database.
const backupTimeout = time.Hour

// BackupDatabase writes a backup of the server's database into the directory that the server was started with. It returns
// once the backup is complete and verified. fileName is at most 128 characters of A-Z a-z 0-9 . _ - and starts with a
// letter or a digit.
//
// The call is sent once, without retries. Without a deadline in ctx, its timeout is one hour. If the call ends early, the
// server removes the incomplete backup.
//
// Fails with ErrInvalidField, ErrBackupNotConfigured, ErrBackupAlreadyExists, ErrBackupFailed, and with ErrOverloaded if
// a backup is already running.
func (c *Client) BackupDatabase(ctx context.Context, fileName string) (*Backup, error) {
	request := &perdurev1.BackupDatabaseRequest{FileName: fileName}
	response, err := callWith(ctx, c, NoRetries, backupTimeout, c.server.BackupDatabase, request, "")
	if err != nil {
		return nil, err
	}
	return &Backup{
		Path:         response.GetPath(),
		SizeBytes:    response.GetSizeBytes(),
		Instances:    response.GetInstances(),
		SnapshotTime: timeOf(response.GetSnapshotTime()),
	}, nil
}

// CheckHealth returns the health of the server, from the standard gRPC health service. The empty service name means ready
// for calls. "liveness" means that the process responds.
//
// The call is sent once, without retries. Fails with codes.Unavailable if the server cannot be reached, and with
// codes.NotFound if it does not know the service.
func (c *Client) CheckHealth(ctx context.Context, service string) (Health, error) {
	request := &grpc_health_v1.HealthCheckRequest{Service: service}
	response, err := callWith(ctx, c, NoRetries, c.timeout, c.health.Check, request, "")
	if err != nil {
		return "", err
	}
	return healthOf(response.GetStatus()), nil
}
