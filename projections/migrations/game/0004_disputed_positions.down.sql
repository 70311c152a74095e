DROP TABLE disputed_positions;
