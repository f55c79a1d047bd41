package dev.perdure;

import java.time.Instant;

/**
 * Complete, verified backup of the database of a server.
 *
 * @param path absolute path on the machine of the server
 * @param sizeBytes size in bytes
 * @param instances number of instances in the backup
 * @param snapshotTime time of the copy, by the clock of the store. The backup contains every write that was
 *     acknowledged before
 */
public record Backup(String path, long sizeBytes, long instances, Instant snapshotTime) {}
