DROP TABLE simulin_names;
