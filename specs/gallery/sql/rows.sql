INSERT INTO customers VALUES
    (1, 'Ines Abel', 'Graz', '2023-02-11'), (2, 'Karl Beck', 'Linz', '2023-08-30'), (3, 'Mia Celik', 'Graz', '2024-01-05'),
    (4, 'Otto Dorn', 'Wien', '2024-03-19'), (5, 'Paula Ernst', 'Linz', '2024-11-02');
INSERT INTO products VALUES
    (1, 'Tent for two', 'tent', 18900), (2, 'Tent for four', 'tent', 32900), (3, 'Sleeping bag', 'sleep', 9900),
    (4, 'Stove', 'cook', 4500), (5, 'Pot', 'cook', 1900), (6, 'Lamp', 'light', 2500);
INSERT INTO orders VALUES
    (1, 1, '2024-05-02'), (2, 2, '2024-05-20'), (3, 1, '2024-06-11'), (4, 3, '2024-06-30'), (5, 4, '2024-07-01'), (6, 3, '2024-07-15');
INSERT INTO lines VALUES (1, 1, 1), (1, 3, 2), (2, 4, 1), (2, 5, 2), (3, 6, 1), (4, 2, 1), (4, 3, 4), (5, 5, 1), (6, 4, 1), (6, 6, 2);
